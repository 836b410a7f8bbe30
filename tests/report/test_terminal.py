"""What people read: signs for taps, short numbers, and names that cannot steer a terminal."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import flatconv
from flatconv.report import terminal


@pytest.fixture(scope="module")
def flat():
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("causal", nn.Conv3d(1, 2, 3, padding=(0, 1, 1)))
    net.add_module("repeat", nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"))
    net.add_module("last", nn.Conv3d(2, 1, 1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net
            self.never = nn.Conv3d(1, 1, (3, 1, 1))

        def forward(self, x):
            return self.net(nn.functional.pad(x, (0, 0, 0, 0, 2, 0)))

    return flatconv.fold(Net().eval(), (torch.randn(1, 1, 1, 8, 9),), dynamic=False)


def test_taps_have_a_sign_each(flat):
    causal, repeat, last = flat.report.audit.sites
    assert terminal.taps(causal) == "· · ■"
    assert terminal.taps(repeat) == "∪ ∪ ∪"
    assert terminal.taps(last) == "■"


def test_reasons_in_words(flat):
    causal, repeat, last = flat.report.audit.sites
    assert causal.reason == "taps 0, 1 meet only zeros: 2 slices of zeros from the causal pad in pad"
    assert repeat.reason.startswith("taps 0, 1, 2 meet the same slice: 1 + 1 slices repeated (replicate)")
    assert last.reason == "every tap meets data"


def test_the_tables_say_what_was_done(flat):
    text = str(flat.report)
    assert "drop dead taps" in text
    assert "merge taps" in text
    assert "3 exact" in text
    assert "never.weight" in text
    assert "may change from call to call: none" in text
    audit = str(flat.report.audit)
    assert "3 sites" in audit
    assert "Net.forward on x 1×1×1×8×9" in audit


HOSTILE = "\x1b[31m\u202e\x9b2J\r\n[red]:dog:[/blue]\ud800\u2028"


@pytest.fixture
def hostile(flat):
    """A report in which every word that can come from a model is hostile."""
    audit = flat.report.audit
    site = dataclasses.replace(audit.sites[0], name=HOSTILE, op=HOSTILE, reason=HOSTILE)
    audit = dataclasses.replace(
        audit,
        model=HOSTILE,
        method=HOSTILE,
        inputs=((HOSTILE, (1, 2)),),
        sites=(site,),
        unused_parameters=(HOSTILE,),
        unknown={HOSTILE: (HOSTILE,)},
        notes=(HOSTILE,),
    )
    done = dataclasses.replace(flat.report.sites[0], audit=site, becomes=HOSTILE)
    left = dataclasses.replace(done, rule=(), refusal=(HOSTILE,))
    return dataclasses.replace(
        flat.report,
        audit=audit,
        sites=(done, left),
        free=(HOSTILE,),
        assumptions=(HOSTILE,),
        unused_parameters=(HOSTILE,),
    )


def test_names_cannot_steer_the_terminal(hostile):
    for text in (str(hostile), str(hostile.audit)):
        assert text.replace("\n", "").isprintable()
        flowing = "".join(text.split())
        assert "\\x1b[31m" in flowing
        assert ":dog:" in flowing  # neither markup nor a picture sign is made of it


def test_hostile_names_are_valid_json_and_come_back(hostile):
    for text in (hostile.to_json(), hostile.audit.to_json()):
        assert text.replace("\n", "").isprintable()
        text.encode()
    assert json.loads(hostile.to_json())["unused_parameters"] == [HOSTILE]
    assert json.loads(hostile.audit.to_json())["sites"][0]["name"] == HOSTILE


def test_very_long_names_are_cut_in_tables_and_whole_in_json(flat):
    name = "a" * 3000 + ".end"
    audit = dataclasses.replace(flat.report.audit, sites=(dataclasses.replace(flat.report.audit.sites[0], name=name),))
    shown = "".join(str(audit).split())
    assert "…" in shown
    assert ".end" in shown
    assert "a" * 200 not in shown
    assert name in audit.to_json()


def test_narrow_terminals_get_fewer_columns(flat):
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal.audit_view(flat.report.audit, 80))
    text = console.export_text()
    assert "operator" not in text
    assert "· · ■" in text


@pytest.mark.parametrize(
    ("number", "text"), [(12, "12"), (1234, "1.23 k"), (5.3e6, "5.3 M"), (16.2e9, "16.2 G"), (2e12, "2 T")]
)
def test_count(number, text):
    assert terminal.count(number) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(1, 3, "33.3 %"), (3, 3, "100 %"), (99999, 100000, "99.9 %"), (0, 0, "–")]
)
def test_share(part, whole, text):
    assert terminal.share(part, whole) == text


def test_json_holds_the_same_numbers(flat):
    found = json.loads(flat.report.to_json())
    assert [s["live_taps"] for s in found["sites"]] == [[2], [0, 1, 2], [0]]
    assert found["sites"][0]["becomes"] == "conv2d"
    assert found["audit"]["totals"] == dataclasses.asdict(flat.report.audit.totals)
    assert found["unused_parameters"] == ["never.weight", "never.bias"]
    assert json.loads(flat.report.audit.to_json())["sites"][1]["merged_taps"] == [0, 1, 2]
