"""(1, k, k) against Conv2d: that a difference would be seen, that sums are exact where it is said, and the verdict."""

import pytest
import torch

from flatconv.study import statistics
from flatconv.study.claims import c9_unit_depth_equals_2d as c9

CASE = c9.Case("float32", 3, 1, 1, 2, "1 zeros", 3, 0)


@pytest.mark.parametrize("case", c9.cases(c9.QUICK)[::4], ids=str)
def test_both_layers_give_the_same_parts(case):
    given = c9.numbers(case, whole=True)
    assert c9.order_is_free(case, given)
    one, other = c9.volume(case, given), c9.planes(case, given)
    assert len(one) == len(other) == len(c9.PARTS)
    for part, a, b in zip(c9.PARTS, one, other, strict=True):
        assert torch.equal(a, b), part
        assert a.dtype == c9.DTYPES[case.dtype]


def test_parts_are_result_and_gradients_by_hand():
    case = c9.Case("float64", 1, 1, 1, 1, "0 zeros", 1, 0)
    given = c9.numbers(case, whole=False)
    found, x, weight, bias = c9.volume(case, given)
    w = given.weight[:, :, 0, 0]
    shown = torch.einsum("oi,nidhw->nodhw", w, given.x) + given.bias.reshape(1, -1, 1, 1, 1)
    assert torch.allclose(found, shown)
    assert torch.allclose(x, torch.einsum("oi,nodhw->nidhw", w, given.arriving))
    assert torch.allclose(weight[:, :, 0, 0], torch.einsum("nodhw,nidhw->oi", given.arriving, given.x))
    assert torch.allclose(bias, given.arriving.sum((0, 2, 3, 4)))


@pytest.mark.parametrize("part", range(4))
def test_a_difference_is_seen(part, monkeypatch):
    planes = c9.planes

    def wrong(case, given):
        found = [t.clone() for t in planes(case, given)]
        found[part][(0,) * found[part].dim()] += 1
        return tuple(found)

    config = c9.Config(("float32",), (3,), (1,), (1,), (1,), ("0 zeros",), (1,), tuple(range(6)))
    assert c9.run(config, lambda words: None).verdict == "confirmed"
    monkeypatch.setattr(c9, "planes", wrong)
    assert c9.run(config, lambda words: None).verdict == "refuted"


def test_a_wrong_sum_is_beyond_the_bound_and_another_order_is_not():
    given = c9.numbers(CASE, whole=False)
    one, other = c9.volume(CASE, given), c9.planes(CASE, given)
    assert max(c9.bound_used(CASE, given, one, other)) <= 1
    wrong = tuple(t * 1.01 for t in other)
    assert min(c9.bound_used(CASE, given, one, wrong)) > 1


def test_sums_that_may_be_rounded_are_not_called_exact():
    case = c9.Case("bfloat16", 3, 1, 1, 1, "1 zeros", 3, 0)
    given = c9.numbers(case, whole=True)
    many = c9.Tensors(given.x * 100, given.weight, given.bias, given.arriving)
    assert not c9.order_is_free(case, many)


def test_what_pytorch_refuses_is_not_a_case():
    assert not [c for c in c9.cases(c9.FULL) if c.stride > 1 and "same" in c.padding]
    assert len(c9.cases(c9.FULL)) == len(set(c9.cases(c9.FULL)))


def test_padding_of_all_axes_makes_slices_of_bias():
    assert c9.trap_depth() == 3


@pytest.mark.parametrize(
    ("equal", "n", "worst", "verdict"),
    [
        (100, 100, 0.5, "confirmed"),
        (100, 100, 1.5, "undecided"),
        (60, 100, 0.5, "corrected"),
        (45, 100, 0.5, "corrected"),
        (5, 100, 0.5, "refuted"),
        (0, 0, 0.5, "undecided"),
    ],
)
def test_judge(equal, n, worst, verdict):
    assert c9.judge(statistics.share("x", equal, n), worst) == verdict
