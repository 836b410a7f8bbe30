"""Tables of stacks."""

import io

import pytest
import torch
from rich.console import Console

from flatconv.report.stacking import frames, stack_view, windows_view
from flatconv.stack import stack
from tests.stack.making import picture


def text(view):
    console = Console(file=io.StringIO(), width=120, color_system=None)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


SHORT = {
    (0, 1, 2, 3): "0–3",
    (0, 2, 4): "0–4 by 2",
    (5,): "5",
    (0, 1): "0 1",
    (0, 0, 1): "0 0 1",
    (8, 9, None): "8 9 zeros",
    (2, 1, 0): "2 1 0",
    tuple([0] * 20): "0 0 0 0 0 0 … 0 0 0 0 0 0",
}


@pytest.mark.parametrize(("shown", "words"), SHORT.items())
def test_frames(shown, words):
    assert frames(shown) == words


def test_a_stack_with_a_hostile_name(tmp_path):
    picture(tmp_path / "\x1b[2J[red]x.png", 0)
    s = stack(tmp_path, "single")
    shown = text(stack_view(s.summary())) + text(windows_view([(0, (0,), (0, 0), "w")], 1, s.source.label))
    assert "\x1b" not in shown
    assert "\\x1b[2J[red]x.png" in shown


def test_what_is_left_out_is_shown():
    s = stack(torch.zeros(10, 1, 4, 4), "time:4", layout="TCHW")
    shown = text(stack_view(s.summary()))
    assert "windows that would stick out are not made" in shown
    assert "frames in no window   2" in shown
    rows = [(0, (0, 1, 2, 3), (0, 0), "a")]
    assert "…" in text(windows_view(rows, 2, s.source.label))
