"""The article's three examples as files: they run, and what they print is what really happens."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def printed(capsys):
    def run(name):
        runpy.run_path(str(EXAMPLES / f"article_{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_direct_use_meets_the_middle_tap_alone(printed):
    text = printed("direct")
    apart = {int(t): float(v) for t, v in re.findall(r"tap (\d) alone differs from Conv3d by at most (\S+)", text)}
    assert apart[1] < 1e-5 < 0.1 < min(apart[0], apart[2])
    assert "· ■ ·" in text
    assert "conv2d" in text


def test_stacked_frames_have_an_order_that_only_depth_sees(printed):
    text = printed("frames")
    assert "(1, 3, 16, 96, 96)" in text
    assert "■ ■ ■" in text
    volume, plane = (float(v) for v in re.findall(r"changes the result by (\S+) of its size", text))
    assert plane < 1e-5 < 1e-3 < volume


def test_unit_depth_is_a_conv2d_bit_for_bit(printed):
    text = printed("unit_depth")
    assert re.findall(r"equals? .*?: (True|False)", text) == ["True"]
    assert re.findall(r"are equal: +(True|False)", text) == ["True", "True"]
