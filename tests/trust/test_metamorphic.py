"""Metamorphic tests: identities do not change what a program or its fold gives, and a wrong one is noticed."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from flatconv.ops import pad, pick
from trust.agreement import DifferenceError, Program, agree
from trust.draw import graph
from trust.identities import IDENTITIES, Identity, Rewritten, inserted
from trust.metamorphic import SEVERAL, Price, Report, Score, Trial, check_programs, check_recipe, main
from trust.recipes import Recipe
from trust.steps import KINDS, Step


def conv(value: int, axes: int, channels: list[int], name: str, **changed: Any) -> Step:
    args = {
        "axes": axes,
        "transposed": False,
        "channels": channels,
        "kernel": [3] * axes,
        "stride": [1] * axes,
        "padding": [1] * axes,
        "dilation": [1] * axes,
        "extra": [0] * axes,
        "groups": 1,
        "bias": True,
        "mode": "zeros",
        "module": name,
        "function": False,
    }
    return Step("conv", args | changed, (value,))


def padded(value: int, lo: int, hi: int, number: float = 0.0) -> Step:
    return Step("pad", {"amounts": [0, 0, 0, 0, lo, hi], "mode": "constant", "value": number}, (value,))


STACK = Recipe(
    ((2, 2, 1, 4, 3),),
    (
        conv(0, 3, [2, 3], "m0"),
        padded(1, 2, 0),
        conv(2, 3, [3, 4], "m1", padding=[0, 1, 1], bias=False),
        conv(3, 3, [4, 4], "m2", groups=2, stride=[1, 2, 1], dilation=[1, 1, 2], padding=[1, 0, 2]),
    ),
    (4,),
    1,
)
"""Symmetric and causal padding, depth 1 throughout."""
UPWARDS = Recipe(
    ((2, 2, 2, 3, 3),),
    (
        conv(0, 3, [2, 3], "m0", transposed=True, kernel=[1, 2, 3], stride=[1, 2, 1], padding=[0, 0, 1]),
        conv(1, 3, [3, 2], "m1", padding="same", kernel=[2, 3, 1], bias=False),
    ),
    (1, 2),
    2,
)
PICTURE = Recipe(((2, 3, 5, 4),), (conv(0, 2, [3, 4], "m0", stride=[2, 1]), conv(1, 2, [4, 2], "m1")), (2,), 3)
HAND_MADE = (STACK, UPWARDS, PICTURE)


@cache
def started(which: int, weights: str) -> Trial:
    """A hand-made program and its own fold, made once."""
    trial = Trial(Program.of(HAND_MADE[which]), weights, Report())
    assert trial.start()
    return trial


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda i: i.name)
def test_every_identity_holds_folded_and_unfolded(identity: Identity) -> None:
    report = Report()
    for seed, which in itertools.product(range(4), range(len(HAND_MADE))):
        trial = replace(started(which, ["folded", "shared"][seed % 2]), report=report)
        rewritten = trial.program.rewritten(identity, random.Random(seed))
        if rewritten is not None:
            trial.compare(rewritten, identity.name)
        if report.scores.get(identity.name, Score()).applied == 4:
            break
    assert report.failures == []
    assert report.scores[identity.name].applied == 4
    # Sums of small whole numbers: nothing is left to rounding.
    assert set(report.outputs) == {"bit for bit"}


def test_names_of_identities_are_unique() -> None:
    assert len({i.name for i in IDENTITIES}) == len(IDENTITIES)


def test_a_rewritten_recipe_is_data() -> None:
    (identity,) = (i for i in IDENTITIES if i.name == "sum of taps")
    rewritten = Program.of(STACK).rewritten(identity, random.Random(0))
    assert rewritten is not None
    assert Recipe.from_json(rewritten.recipe.to_json()) == rewritten.recipe
    assert rewritten.recipe.modules == STACK.modules


def test_rewritten_steps_are_never_drawn() -> None:
    assert isinstance(KINDS["rewritten"], Rewritten)
    assert KINDS["rewritten"].share == 0
    assert not any(s.kind == "rewritten" for seed in range(30) for s in graph(seed).steps)


def test_a_step_is_inserted_in_front_of_all_readers() -> None:
    """Values behind the new one count one more, and whoever read the old one reads the new one."""
    new = Step("rewritten", {"code": "{0}.clone()", "nature": "moves"}, (1,))
    recipe = Recipe(((1,), (2,)), (Step("a", {}, (1, 0)), Step("b", {}, (2, 1))), (1, 3))
    made = inserted(recipe, 1, new)
    assert [(s.kind, s.inputs) for s in made.steps] == [("rewritten", (1,)), ("a", (2, 0)), ("b", (3, 2))]
    assert made.outputs == (2, 4)
    behind = inserted(recipe, 2, Step("rewritten", {}, (2,)))
    assert [(s.kind, s.inputs) for s in behind.steps] == [("a", (1, 0)), ("rewritten", (2,)), ("b", (3, 1))]
    assert behind.outputs == (1, 4)


# --- what is wrong is noticed


def crop_off_by_one(r: random.Random, shape: tuple[int, ...], axis: int) -> str | None:
    if len(shape) != 5 or axis != 2:
        return None
    return f"F.pad({{0}}, [0, 0, 0, 0, 1, 1]).narrow(2, 0, {shape[2]})"


def test_an_identity_that_is_off_by_one_slice_is_noticed() -> None:
    report = Report()
    check_recipe(STACK, report, [Identity("crop off by one", "", True, crop_off_by_one)])
    (failure,) = report.failures
    assert failure["what"] == "crop off by one: the rewritten program itself"
    assert "DifferenceError" in failure["why"]
    assert "narrow(2, 0, 1)" in failure["code"]


def test_a_wrong_fold_of_the_program_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding with a constant is taken for padding with zeros."""
    monkeypatch.setattr(pad.Padding, "zeros", True)
    recipe = Recipe(((1, 1, 1, 3, 3),), (padded(0, 1, 1, 1.5), conv(1, 3, [1, 1], "m0", padding=[0, 0, 0])), (2,), 0)
    report = Report()
    check_recipe(recipe, report)
    assert [f["what"] for f in report.failures] == ["the fold of the program"]


def test_a_fold_that_is_wrong_for_the_rewritten_program_only_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The positions of ``narrow`` are off by one, and the program itself has none."""
    right = pick.Slice.positions

    def off_by_one(self: pick.Slice, node: Any) -> Any:
        found = right(self, node)
        return range(found.start - 1, found.stop - 1) if node.op.startswith("aten.narrow") and found.start else found

    monkeypatch.setattr(pick.Slice, "positions", off_by_one)
    identity = next(i for i in IDENTITIES if i.name == "replicate, then crop")
    recipe = Recipe(((1, 1, 1, 3, 3),), (padded(0, 1, 1), conv(1, 3, [1, 1], "m0", padding=[0, 0, 0])), (2,), 0)
    report = Report()
    trial = Trial(Program.of(recipe), "folded", report)
    assert trial.start()
    for seed in range(8):
        rewritten = trial.program.rewritten(identity, random.Random(seed))
        assert rewritten is not None
        trial.compare(rewritten, identity.name)
    assert {f["what"] for f in report.failures} == {"replicate, then crop: the fold"}


def test_one_unit_in_the_last_place_is_noticed_where_sums_are_exact() -> None:
    program = Program.of(STACK)
    assert program.exact == [True]
    (right,) = program.outputs
    wrong = right.clone()
    wrong.view(-1)[0] = torch.nextafter(wrong.view(-1)[0], torch.tensor(torch.inf, dtype=torch.float64))
    agree(program, (right,))
    with pytest.raises(DifferenceError, match=f"differs in 1 of {right.numel()} exact numbers"):
        agree(program, (wrong,))


def test_rounding_is_allowed_where_sums_are_rounded_and_no_more() -> None:
    recipe = Recipe(
        STACK.inputs,
        (*STACK.steps, Step("rewritten", {"code": "torch.exp(-{0} / 999)", "nature": "other"}, (4,))),
        (5,),
    )
    program = Program.of(recipe)
    assert program.exact == [False]
    (right,) = program.outputs
    tally: Counter[str] = Counter()
    agree(program, (right * (1 + 1e-14),), tally)
    assert tally == {"within rounding": 1}
    with pytest.raises(DifferenceError, match="is off by"):
        agree(program, (right * (1 + 1e-8),))


def test_another_shape_is_noticed() -> None:
    program = Program.of(PICTURE)
    with pytest.raises(DifferenceError, match="not"):
        agree(program, (program.outputs[0][:1],))


# --- what folds cost


def test_prices_are_counted_while_the_fold_runs() -> None:
    # Depth 1 in, symmetric padding of 1: one of three taps is left, and the convolution is 2-D.
    recipe = Recipe(((1, 2, 1, 4, 4),), (conv(0, 3, [2, 3], "m0"),), (1,))
    trial = Trial(Program.of(recipe), "folded", Report())
    assert trial.start()
    assert trial.price == Price(2 * 4 * 4 * 2 * 3 * 9, 0, True)


def test_folds_are_scored_against_the_fold_of_the_program() -> None:
    score = Score()
    before = Price(100, 0, True)
    for behind in (
        Price(100, 0, True),
        Price(90, 0, True),
        Price(150, 0, True),
        Price(250, 1, True),
        Price(100, 1, True),
    ):
        score.count(before, behind, 7)
    idle = Price(100, 1, False)
    score.count(idle, idle, 8)
    score.count(idle, Price(300, 1, False), 9)
    assert (score.kept, score.lost, score.dearer, score.rank_lost, score.idle) == (2, 3, 7.0, 1, 1)
    assert score.lost_at == [7, 7, 7, 9]


# --- small runs


def test_random_programs_hold() -> None:
    report = check_programs(0, 8)
    assert report.failures == []
    assert report.programs >= 5
    assert sum(s.applied for name, s in report.scores.items() if name != SEVERAL) >= 2 * report.programs
    assert report.outputs["bit for bit"] > 30


def test_programs_that_write_in_place_are_left_out_and_counted() -> None:
    write = Step("inplace", {"operator": "relu", "axis": 0, "index": 0}, (1,))
    report = Report()
    check_recipe(Recipe(PICTURE.inputs, (PICTURE.steps[0], write), (2,)), report)
    assert (report.programs, dict(report.left_out)) == (0, {"writes in place": 1})


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "metamorphic.json"
    assert main(["--programs", "2", "--start", "4", "--json", str(file)]) == 0
    data = json.loads(file.read_text())
    assert data["seeds"] == [4, 6]
    assert data["failures"] == []
    assert f"{data['programs']} programs" in capsys.readouterr().out
    assert all(i["equation"] for name, i in data["identities"].items() if name != SEVERAL)
