"""Command lines that cannot be carried out end with a sentence and the right exit code, and write nothing."""

import json
import os
import sys
import warnings

import pytest
import torch

import flatconv
from flatconv import cli
from tests.bad import commands
from tests.bad.table import Bad, little_memory, nothing_happens, rows, says


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    """What torch loads at the first capture is not counted as a row's memory."""
    flatconv.fold(torch.nn.Conv3d(1, 1, 1), (torch.zeros(1, 1, 1, 2, 2),), verify=False)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    commands.lay_out(tmp_path)
    yield tmp_path
    for name in ("models", "leaves", "needs_more"):
        sys.modules.pop(name, None)


def run(capfd, arguments):
    with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
        warnings.simplefilter("ignore")
        cli.main(list(arguments))
    said = capfd.readouterr()
    return stopped.value.code or 0, said.out, said.err


@rows(commands.TABLE)
def test_refused(row: Bad, place, capfd):
    arguments = row.given
    if arguments[0] == "fold" and "-o" not in arguments:
        arguments = ["fold", "-o", "out", *arguments[1:]]
    with nothing_happens(place), little_memory():
        code, out, err = run(capfd, arguments)
    assert code == row.error, err
    assert out == ""
    assert "\x1b" not in err
    # What is being done is told first, the error is last.
    says(row, err[err.rfind("error: ") :] if "error: " in err else err.replace("│", " "))
    assert "Traceback" not in err


def test_interrupted(place, capfd):
    with nothing_happens(place):
        code, out, err = run(capfd, ["fold", *commands.SIZES, "-o", "out", "models.py:interrupted"])
    assert code == 130
    assert out == ""
    assert "Traceback" not in err


def test_a_model_that_prints_does_not_spoil_the_numbers(place, capfd):
    (place / "talks.py").write_text(
        "from torch import nn\n"
        "class Talks(nn.Conv3d):\n"
        "    def forward(self, x):\n"
        "        print('hello')\n"
        "        return super().forward(x)\n"
        "def net():\n"
        "    print('building')\n"
        "    return Talks(3, 4, 3, padding=1)\n"
    )
    code, out, err = run(capfd, ["audit", *commands.SIZES, "--json", "talks.py:net"])
    assert code == 0
    assert json.loads(out)["totals"]["sites"] == 1
    assert "building" in err


def test_names_are_written_as_they_are_and_no_picture_or_colour_is_made_of_them(place, capfd):
    (place / "names.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    made = nn.Sequential()\n"
        "    made.add_module('[red]:dog:[nothing]', nn.Conv3d(3, 4, 3, padding=1))\n"
        "    return made\n"
    )
    os.mkdir("[red]:dog:")
    for arguments in (["audit"], ["fold", "-o", "[red]:dog:"]):
        code, out, err = run(capfd, [*arguments, *commands.SIZES, "names.py:net"])
        assert code == 0
        assert "[red]:dog:[nothing]" in "".join(out.split())
    assert "to [red]:dog:" in " ".join(err.split())
