"""Which tap is live: the two methods without each other, and the rule that makes the verdict."""

import dataclasses

import pytest
import torch
from torch import nn

from flatconv.study import data, statistics
from flatconv.study.claims import c1_direct_use as c1

RULES = {rule.name: rule for rule in c1.RULES}
IMAGE = torch.randint(1, 255, (1, 3, 1, 6, 6), generator=torch.Generator().manual_seed(0)).float()

# By hand: which taps meet a single slice.
EXPECTED = {
    ("zeros, 'same'", 3): ((1,), ((1,),)),
    ("zeros, 'same'", 2): ((0,), ((0,),)),
    ("zeros, 'same'", 4): ((1,), ((1,),)),
    ("zeros, k // 2 on both sides", 4): ((1, 2), ((1,), (2,))),
    ("zeros in front (causal)", 3): ((2,), ((2,),)),
    ("zeros behind", 3): ((0,), ((0,),)),
    ("replicate, 'same'", 3): ((0, 1, 2), ((0, 1, 2),)),
    ("replicate in front (causal)", 2): ((0, 1), ((0, 1),)),
    ("circular, 'same'", 3): ((0, 1, 2), ((0, 1, 2),)),
    ("transposed, padding 0", 3): ((0, 1, 2), ((0,), (1,), (2,))),
    ("transposed, (k - 1) // 2", 3): ((1,), ((1,),)),
    ("zeros, k - 1 on both sides ('full')", 2): ((0, 1), ((0,), (1,))),
}


@pytest.mark.parametrize(("name", "depth"), EXPECTED)
def test_both_methods_find_what_is_right_by_hand(name, depth):
    net = RULES[name].build(depth).eval()
    expected = c1.Use(*EXPECTED[name, depth])
    assert c1.analysed(net, IMAGE) == expected
    found, strength = c1.measured(net, IMAGE, seed=0)
    assert found == expected
    assert [s > 0 for s in strength] == [tap in expected.live for tap in range(depth)]


@pytest.mark.parametrize(("name", "depth"), [("reflect, 'same'", 3), ("none", 2), ("circular, 'same'", 5)])
def test_what_pytorch_refuses_is_a_row_without_taps(name, depth):
    assert c1._row(RULES[name], depth, [IMAGE], (0,)).use is None


def test_measurement_does_not_believe_the_analysis(monkeypatch):
    monkeypatch.setattr(c1, "analysed", lambda net, image: c1.Use((0,), ((0,),)))
    row = c1._row(RULES["zeros, 'same'"], 3, [IMAGE], (0, 1))
    assert (row.agreed, row.measured) == (0, 2)


def test_dead_taps_are_found_whatever_the_photograph():
    image = c1._piece(data.photographs()[0])
    assert image.shape == (1, 3, 1, c1.SIZE, c1.SIZE)
    assert torch.equal(image, image.round())
    assert float(image.max()) > 1
    assert c1.measured(nn.Conv3d(3, 2, 3, padding=1), image, 1)[0].live == (1,)


def rows(*live, depth=3, usual=True):
    return [c1.Row("r", usual, depth, None if taps is None else c1.Use(taps, ()), 1, 1) for taps in live]


AGREED = statistics.share("x", 10, 10)


@pytest.mark.parametrize(
    ("made", "agreement", "verdict"),
    [
        (rows((0,), (0,)), AGREED, "confirmed"),
        (rows((1,), (1,)), AGREED, "corrected"),
        (rows((1,), (0,)), AGREED, "corrected"),
        (rows((0, 1, 2)), AGREED, "refuted"),
        (rows((1,)), statistics.share("x", 9, 10), "undecided"),
        (rows((1,)), statistics.share("x", 0, 0), "undecided"),
        (rows(None), AGREED, "undecided"),
        # Neither an even kernel nor unusual padding decides.
        (rows((1,)) + rows((0, 1), depth=4) + rows((0, 1, 2), usual=False), AGREED, "corrected"),
    ],
)
def test_judge(made, agreement, verdict):
    assert c1.judge(made, agreement) == verdict


@pytest.mark.parametrize(
    ("use", "depth", "words"),
    [
        (c1.Use((0,), ((0,),)), 1, "tap 0"),
        (c1.Use((0,), ((0,),)), 3, "tap 0 (first)"),
        (c1.Use((2,), ((2,),)), 3, "tap 2 (last)"),
        (c1.Use((1,), ((1,),)), 4, "tap 1"),
        (c1.Use((1, 2), ((1,), (2,))), 4, "taps 1, 2"),
        (c1.Use((0, 1), ((0, 1),)), 2, "the sum of all 2"),
        (c1.Use((0, 1), ((0,), (1,))), 2, "every tap, each at its own slice of the result"),
    ],
)
def test_words(use, depth, words):
    assert use.words(depth) == words


def test_the_finding_is_counted_and_not_told():
    config = dataclasses.replace(c1.QUICK, depths=(3,))
    usual = [c1.Row(r.name, r.usual, 3, c1.Use((0,), ((0,),)), 1, 1, (1.0, 0.0, 0.0)) for r in c1.RULES]
    found = c1._result(config, usual)
    assert found.verdict == "confirmed"
    assert "the centre one in 0 of 2 cases and the first one in 2" in found.finding
