"""``flatconv fold`` and the choice of forms."""

import json

import pytest

from flatconv import cli
from flatconv.tune import search

SPEC = ("flatconv.examples:patch_embed", "--input", "8x1176")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fold", *SPEC, *map(str, arguments)])
    text = capsys.readouterr()
    return stopped.value.code or 0, text.out, text.err


def test_forms_are_timed_and_told(capsys, tmp_path):
    code, out, _ = run(capsys, "--budget", "5", "-o", tmp_path / "out")
    assert code == 0
    assert "Forms timed in eager PyTorch" in out
    assert "Taken:" in out
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["tuned"]["original"] > 0
    page = (tmp_path / "out/report.html").read_text()
    assert "Forms that were timed" in page
    assert report["tuned"]["chosen"] in page


def test_a_fixed_choice(capsys, monkeypatch):
    monkeypatch.setattr(search, "tune", None)
    code, out, _ = run(capsys, "--no-tune")
    assert code == 0
    assert "Forms timed" not in out
    assert "patches to a matrix product" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--engine", "tvm"), "it may be 'eager' or 'compile'"), (("--budget", "0"), "seconds of timing")],
)
def test_bad_settings_write_nothing(capsys, tmp_path, arguments, words):
    code, _, err = run(capsys, *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert words in " ".join(err.split())
    assert not (tmp_path / "out").exists()
