"""Each oracle against wrong folds made by hand: what it must see, and what it cannot."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from trust.oracles import Judge, Tally, WrongError, impulses
from trust.recipes import Recipe, Setting
from trust.steps import Step
from trust.track import absolute, precision, tracks

torch.set_num_threads(1)

CONV = {
    "axes": 3,
    "transposed": False,
    "channels": [2, 3],
    "kernel": [3, 2, 2],
    "stride": [1, 1, 1],
    "padding": [1, 1, 1],
    "dilation": [1, 1, 1],
    "extra": [0, 0, 0],
    "groups": 1,
    "bias": True,
    "mode": "zeros",
    "module": "m0",
}
SQUARE = Recipe(((2, 2, 3, 4, 4),), (Step("conv", CONV, (0,)),), (1,), 7)

Wrong = Callable[[nn.Module], Callable[..., tuple[torch.Tensor, ...]]]


def changed(change: Callable[[nn.Conv3d], None]) -> Wrong:
    """The original with other weights."""

    def make(model: nn.Module) -> nn.Module:
        other = copy.deepcopy(model)
        with torch.no_grad():
            change(other.m0)  # type: ignore[arg-type]
        return other

    return make


def right(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def swapped(model: nn.Module) -> Callable[..., tuple[torch.Tensor, ...]]:
    return lambda x: tuple(y.transpose(3, 4) for y in model(x.transpose(3, 4)))


def saturating(model: nn.Module) -> Callable[..., tuple[torch.Tensor, ...]]:
    return lambda x: tuple(y.clamp(-6, 6) for y in model(x))


def coarse(model: nn.Module) -> Callable[..., tuple[torch.Tensor, ...]]:
    other = copy.deepcopy(model).float()
    return lambda x: tuple(y.to(x.dtype) for y in other(x.float()))


def mixing(model: nn.Module) -> Callable[..., tuple[torch.Tensor, ...]]:
    return lambda x: tuple(y.flip(0) for y in model(x))


WRONG: dict[str, Wrong] = {
    "dropped tap": changed(lambda c: c.weight[:, :, 2].zero_()),
    "swapped height and width": swapped,
    "doubled bias": changed(lambda c: c.bias.mul_(2)),
    "lost small slice": changed(lambda c: c.weight[:, :, 0].zero_()),
    "saturation": saturating,
    "float32 inside": coarse,
    "batch turned round": mixing,
}

SEEN = {
    "impulses": {"dropped tap", "swapped height and width", "doubled bias", "lost small slice", "batch turned round"},
    "dyadics": {
        "dropped tap",
        "swapped height and width",
        "doubled bias",
        "lost small slice",
        "saturation",
        "batch turned round",
    },
    "rounding": {
        "dropped tap",
        "swapped height and width",
        "doubled bias",
        "saturation",
        "float32 inside",
        "batch turned round",
    },
    "float64": {
        "dropped tap",
        "swapped height and width",
        "doubled bias",
        "saturation",
        "float32 inside",
        "batch turned round",
    },
}
"""What each oracle sees. The first tap of the model is tiny: 2**-52 of the others for the two oracles that only bound."""


def caught(oracle: str, wrong: Wrong) -> str:
    """The oracle that complained about a fold; empty if none did."""
    bits = {"impulses": 10, "dyadics": 0, "rounding": 0, "float64": 0}[oracle]
    setting = Setting(how="grid" if oracle == "impulses" else "dyadic", bits=bits)
    model = SQUARE.module(setting.how, setting.bits)
    with torch.no_grad():
        model.m0.weight[:, :, 0] *= 2.0**-52 if oracle in ("rounding", "float64") else 2.0**-10
    if oracle in ("impulses", "dyadics"):
        setting = Setting(how=setting.how, bits=bits + 10)
    if oracle == "impulses":
        # As coefficients are below 6, so are all results.
        assert float(model.m0.weight.abs().max()) < 3
    judge = Judge(SQUARE, setting, model, wrong(model), Tally())
    try:
        if oracle == "impulses":
            judge.impulses()
        elif oracle == "dyadics":
            judge.dyadics(2)
        elif oracle == "rounding":
            judge.randoms()
        else:
            judge.compare("none", SQUARE.tensors(), [None])
    except WrongError as e:
        return e.oracle
    assert judge.tally.outputs[oracle] > 0, "nothing was compared"
    return ""


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("oracle", SEEN)
def test_sees_what_it_should_and_is_blind_to_the_rest(oracle: str, name: str) -> None:
    assert caught(oracle, WRONG[name]) == (oracle if name in SEEN[oracle] else "")


@pytest.mark.parametrize("oracle", SEEN)
def test_a_right_fold_passes(oracle: str) -> None:
    assert caught(oracle, right) == ""


def test_together_they_see_all() -> None:
    assert set.union(*SEEN.values()) == set(WRONG)


def test_own_type_sees_a_result_of_half_the_digits() -> None:
    norm = Step("norm", {"norm": "instance", "axes": 3, "channels": 3, "affine": False, "module": "m1"}, (1,))
    recipe = Recipe(SQUARE.inputs, (*SQUARE.steps, norm), (2,), 7)
    setting = Setting("float32")
    model = recipe.module(dtype=torch.float32)

    def half(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(y.bfloat16().float() for y in model(x))

    with pytest.raises(WrongError) as caught_one:
        Judge(recipe, setting, model, half, Tally()).randoms()
    assert caught_one.value.oracle == "own type"
    tally = Tally()
    Judge(recipe, setting, model, right(model), tally).randoms()
    assert tally.outputs == {"own type": 1}


def test_shapes_types_and_writes_into_inputs_are_seen() -> None:
    model = SQUARE.module()

    def writes(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = model(x.clone())
        x.zero_()
        return results

    for flat, oracle in (
        (lambda x: tuple(y[..., :1] for y in model(x)), "shape"),
        (lambda x: tuple(y.float() for y in model(x)), "shape"),
        (lambda x: (*model(x), x), "shape"),
        (writes, "inputs"),
    ):
        with pytest.raises(WrongError) as caught_one:
            Judge(SQUARE, Setting(), model, flat, Tally()).randoms()
        assert caught_one.value.oracle == oracle


def test_impulses_cover_every_position() -> None:
    for shape, axes in (((2, 3, 1, 2, 2), 3), ((3, 1, 2, 2), 3), ((3, 2, 4), 1)):
        fed = impulses(shape, axes)
        batched = len(shape) == axes + 2
        together = sum(x.sum(0) if batched else x for x in fed)
        assert bool((together >= 1).all())
        assert all(float(x.sum()) == (shape[0] if batched else 1) for x in fed)


class TestTracks:
    """The bounds that claims are made from."""

    def test_bound_holds_for_every_value_and_is_met_by_magnitudes(self) -> None:
        model = SQUARE.module("dyadic", 4)
        magnitudes = absolute(model)
        (x,) = SQUARE.tensors("dyadic", 3)
        found = tracks(SQUARE, magnitudes, [x], torch.float64, (-3, -4))
        assert found[1] is not None
        with torch.no_grad():
            assert bool((model(x)[0].abs() <= found[1].bound).all())
            assert torch.equal(magnitudes(x.abs())[0], found[1].bound)
        assert found[1].unit == -7

    def test_no_claim_once_numbers_need_more_bits_than_there_are(self) -> None:
        magnitudes = absolute(SQUARE.module("dyadic", 20))
        (x,) = SQUARE.tensors("dyadic", 20)
        wide = tracks(SQUARE, magnitudes, [x], torch.float64, (-20, -20))[1]
        narrow = tracks(SQUARE, magnitudes, [x], torch.float32, (-20, -20))[1]
        assert wide is not None
        assert wide.unit == -40
        assert narrow is not None
        assert narrow.unit is None

    @pytest.mark.parametrize(("dtype", "bits"), [(torch.float64, 53), (torch.float32, 24), (torch.bfloat16, 8)])
    def test_precision(self, dtype: torch.dtype, bits: int) -> None:
        assert precision(dtype) == bits
        assert torch.tensor(2.0**bits - 1, dtype=torch.float64).to(dtype).double() == 2.0**bits - 1

    def test_error_is_the_rounding_bound_for_one_operator(self) -> None:
        magnitudes = absolute(SQUARE.module())
        (x,) = SQUARE.tensors()
        found = tracks(SQUARE, magnitudes, [x], torch.float32)[1]
        terms = 2 * 12 + 2
        gamma = terms * 2.0**-24 / (1 - terms * 2.0**-24)
        assert found is not None
        assert found.error is not None
        assert torch.allclose(found.error, gamma * found.bound, rtol=1e-9, atol=1e-30)

    def test_errors_grow_along_a_chain_and_contain_the_real_ones(self) -> None:
        again = CONV | {"channels": [3, 2], "module": "m1"}
        steps = (
            Step("conv", CONV, (0,)),
            Step("unary", {"operator": "relu"}, (1,)),
            Step("conv", again, (2,)),
            Step("binary", {"operator": "subtract"}, (3, 3)),
        )
        recipe = Recipe(SQUARE.inputs, steps, (3,), 3)
        found = tracks(recipe, absolute(recipe.module()), recipe.tensors(), torch.float32)
        assert found[1] is not None
        assert found[3] is not None
        assert found[1].error is not None
        assert found[3].error is not None
        assert float(found[3].error.max()) > float(found[1].error.max())
        with torch.no_grad():
            exact = recipe.module()(*recipe.tensors())[0]
            rounded = recipe.module(dtype=torch.float32)(*recipe.tensors(dtype=torch.float32))[0]
        assert bool(((rounded.double() - exact).abs() <= found[3].error).all())

    def test_nothing_is_known_behind_an_operator_that_is_not_followed(self) -> None:
        steps = (*SQUARE.steps, Step("unary", {"operator": "silu"}, (1,)), Step("unary", {"operator": "relu"}, (2,)))
        recipe = Recipe(SQUARE.inputs, steps, (3,), 7)
        found = tracks(recipe, absolute(recipe.module()), recipe.tensors(), torch.float64)
        assert found[1] is not None
        assert found[2] is None
        assert found[3] is None

    def test_a_write_in_place_reaches_the_views_of_what_it_writes(self) -> None:
        steps = (
            Step("unary", {"operator": "clone"}, (0,)),
            Step("pick", {"how": "narrow", "axis": 2, "numbers": [0, 1]}, (1,)),
            Step("inplace", {"operator": "times", "axis": 0, "index": 0}, (2, 2)),
        )
        recipe = Recipe(SQUARE.inputs, steps, (1,), 7)
        (x,) = recipe.tensors("dyadic", 2)
        found = tracks(recipe, absolute(recipe.module()), [x], torch.float64, (-2, 0))
        assert found[1] is not None
        assert found[1].unit == -4
        assert torch.equal(found[1].bound[:, :, 0], x[:, :, 0] ** 2)
        assert torch.equal(found[1].bound[:, :, 1], x[:, :, 1].abs())
