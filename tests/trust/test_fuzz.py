"""The fuzzer: what it draws, that it finds and shrinks what is wrong, and a sample that must pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import flatconv
from trust import cases, fuzz
from trust.cases import Outcome, check, other_sizes, recipe_of, setting_of
from trust.draw import Draft, graph, single
from trust.recipes import Feed, Recipe, Setting
from trust.shrink import prune, shrink
from trust.steps import KINDS, Step, form
from trust.values import numbers

torch.set_num_threads(1)

OPERATORS = [single(s) for s in range(1500)]
GRAPHS = [graph(s) for s in range(200)]
CONVS = [s.args for x in (*OPERATORS, *GRAPHS) for s in x.steps if s.kind == "conv"]


def test_a_sample_of_operators_passes() -> None:
    found = fuzz.merged([fuzz.chunk(("operator", first, first + 50)) for first in (9000, 9100, 9200, 9300, 9400, 9500)])
    assert found["cases"]["run"] == 300
    assert not found["cases"].get("failed", 0)
    assert found["cases"].get("refused", 0) < 15
    assert found["cases"]["sites rewritten"] > 75
    assert all(found["oracles"][o] > 100 for o in ("impulses", "dyadics", "rounding"))
    assert found["outputs"]["impulses"] > found["oracles"]["impulses"]
    assert 0 < found["share of the rounding bound"] <= 1
    assert set(found["rules"]) >= {
        "drop an axis",
        "drop dead taps",
        "merge taps",
        "one output for all",
        "absorb padding",
        "sum of slices",
        "unfold along an axis",
        "channels-last",
    }


def test_a_sample_of_graphs_passes() -> None:
    found = fuzz.merged([fuzz.chunk(("graph", 9000, 9025))])
    assert found["cases"]["run"] == 25
    assert not found["cases"].get("failed", 0)
    assert found["cases"]["sites rewritten"] > 10
    assert found["calls"]["right"] > 10
    assert all(found["oracles"][o] > 5 for o in ("dyadics", "rounding", "float64"))


def test_the_same_seed_is_the_same_case() -> None:
    for seed in range(20):
        assert single(seed) == OPERATORS[seed]
        assert graph(seed) == GRAPHS[seed]
        assert setting_of("graph", seed) == setting_of("graph", seed)
    assert OPERATORS[0] != OPERATORS[1]


def test_recipes_come_back_from_json() -> None:
    for recipe in (*OPERATORS[:200], *GRAPHS):
        assert Recipe.from_json(recipe.to_json()) == recipe
        assert json.loads(recipe.to_json())["seed"] == recipe.seed


def test_the_module_computes_what_the_steps_do() -> None:
    for recipe in GRAPHS[:50]:
        model = recipe.module()
        with torch.no_grad():
            given = model(*recipe.tensors())
            wanted = recipe.run(dict(model.named_children()), recipe.tensors())
        assert all(torch.equal(a, wanted[o]) for a, o in zip(given, recipe.outputs, strict=True))


def test_weights_are_those_of_the_seed_and_the_name() -> None:
    assert torch.equal(numbers((4,), "1/m0.weight"), numbers((4,), "1/m0.weight"))
    assert not torch.equal(numbers((4,), "1/m0.weight"), numbers((4,), "1/m1.weight"))
    grid = numbers((100,), "a", "grid", 9)
    assert torch.equal((grid * 2**9).round(), grid * 2**9)
    assert torch.equal(numbers((100,), "a").float().double(), numbers((100,), "a"))
    planted = numbers((2, 3, 4), "b", "dyadic", 20).abs().amax(dim=(0, 1))
    assert sorted(planted.tolist())[0] <= 3 * 2.0**-20
    assert sorted(planted.tolist())[1] >= 1


class TestPopulation:
    """What is promised of the programs that are drawn."""

    def test_operators_are_mostly_3d_convolutions_and_everything_else_occurs(self) -> None:
        last = [n for x in OPERATORS for n in fuzz.names(x, "operator")]
        volumes = sum(n in ("conv3d", "conv_transpose3d") for n in last)
        assert volumes >= 0.55 * len(OPERATORS)
        for name in (
            "conv1d",
            "conv2d",
            "conv_transpose1d",
            "conv_transpose2d",
            "norm",
            "resize",
            "avg_pool",
            "max_pool",
        ):
            assert name in last

    def test_graphs_have_2_to_20_steps_a_3d_convolution_and_every_kind(self) -> None:
        assert {len(x.steps) for x in GRAPHS} >= {2, 3, 5, 10, 20}
        assert all(2 <= len(x.steps) <= 20 for x in GRAPHS)
        assert all(any(n in ("conv3d", "conv_transpose3d") for n in fuzz.names(x, "graph")) for x in GRAPHS)
        assert {s.kind for x in GRAPHS for s in x.steps} == {name for name, kind in KINDS.items() if kind.share}

    @pytest.mark.parametrize(
        ("what", "holds"),
        [
            *[(mode, lambda a, mode=mode: a["mode"] == mode) for mode in ("zeros", "reflect", "replicate", "circular")],
            ("same", lambda a: a["padding"] == "same" and a["axes"] == 3),
            ("valid", lambda a: a["padding"] == "valid"),
            ("same with an even kernel", lambda a: a["padding"] == "same" and a["kernel"][0] % 2 == 0),
            ("same with dilation", lambda a: a["padding"] == "same" and a["dilation"][0] > 1),
            ("dilation", lambda a: a["dilation"][0] > 1 and a["kernel"][0] > 1),
            ("stride", lambda a: a["stride"][0] > 1),
            ("stride beyond the kernel", lambda a: a["stride"][0] > a["kernel"][0]),
            ("groups", lambda a: 1 < a["groups"] < a["channels"][0]),
            ("depthwise", lambda a: a["groups"] == a["channels"][0] > 1),
            ("output padding", lambda a: a["transposed"] and any(a["extra"])),
            ("transposed with dilation", lambda a: a["transposed"] and a["dilation"][0] > 1),
            ("no bias", lambda a: not a["bias"]),
            ("function", lambda a: a["function"]),
        ],
    )
    def test_convolutions(self, what: str, holds: Callable[[Any], bool]) -> None:
        assert sum(map(holds, CONVS)) >= 5, what

    def test_fewer_slices_than_taps(self) -> None:
        def hard(x: Recipe) -> bool:
            args, depth = x.steps[-1].args, x.inputs[0][-3] if len(x.inputs[0]) > 3 else 1
            return (
                len(x.steps) == 1 and x.steps[-1].kind == "conv" and args["axes"] == 3 and 1 < depth < args["kernel"][0]
            )

        assert sum(map(hard, OPERATORS)) >= 5

    def test_sizes(self) -> None:
        shapes = [x.inputs[0] for x in OPERATORS]
        assert sum(s[0] == 0 for s in shapes) >= 5, "no empty batch"
        assert sum(len(s) == 5 and len({s[0], s[1], s[3], s[4]}) == 1 for s in shapes) >= 5, "none alike"
        assert sum(len(s) == 5 and len({s[0], s[1], s[3], s[4]}) == 4 for s in shapes) >= 5, "none all different"
        for depth in (1, 2, 3):
            assert sum(len(s) == 5 and s[2] == depth for s in shapes) >= 20
        unbatched = [
            x for x in OPERATORS if x.steps[0].kind == "conv" and len(x.inputs[0]) == x.steps[0].args["axes"] + 1
        ]
        assert len(unbatched) >= 5

    def test_pools_pads_and_resizes(self) -> None:
        steps = [s for x in (*OPERATORS, *GRAPHS) for s in x.steps]
        pools = [s.args for s in steps if s.kind == "avg_pool"]
        assert any(a["ceil"] for a in pools)
        assert {a["divisor"] for a in pools} >= {None, 3, 4}
        assert {a["count_pad"] for a in pools if any(a["padding"])} == {False, True}
        pads = [s.args for s in steps if s.kind == "pad"]
        assert {a["mode"] for a in pads} == {"constant", "reflect", "replicate", "circular"}
        assert any(min(a["amounts"]) < 0 for a in pads)
        assert any(a["value"] for a in pads)
        modes = {s.args["mode"] for s in steps if s.kind == "resize"}
        assert modes >= {"nearest", "nearest-exact", "trilinear", "bilinear", "bicubic"}

    def test_graphs_branch_share_weights_and_write_in_place(self) -> None:
        def shares(x: Recipe) -> bool:
            names = [s.args["module"] for s in x.steps if s.kind == "conv"]
            return len(set(names)) < len(names)

        assert sum(map(shares, GRAPHS)) >= 5
        assert sum(any(form(s).statement for s in x.steps) for x in GRAPHS) >= 20
        assert sum(len(x.outputs) > 1 for x in GRAPHS) >= 20
        assert sum(len(x.inputs) > 1 for x in GRAPHS) >= 20
        binary = [s for x in GRAPHS for s in x.steps if s.kind == "binary" and len(set(s.inputs)) == 2]
        assert len(binary) >= 20

    def test_settings(self) -> None:
        single_ones = [setting_of("operator", s) for s in range(500)]
        assert {s.weights for s in single_ones} == {"folded", "shared"}
        assert {s.dtype for s in single_ones} == {"float64", "float32"}
        assert {s.how for s in single_ones} == {"grid", "full", "dyadic"}
        assert 0.02 < sum(s.verify for s in single_ones) / 500 < 0.1
        several = [setting_of("graph", s) for s in range(500)]
        assert {s.dtype for s in several} == {"float64", "float32", "bfloat16"}
        assert 0.4 < sum(s.dynamic == "auto" for s in several) / 500 < 0.6
        assert 0.1 < sum(s.verify for s in several) / 500 < 0.3


class Wrong(nn.Module):
    """A fold that loses the last slice along depth of what goes into it."""

    def __init__(self, flat: flatconv.Folded, model: nn.Module) -> None:
        super().__init__()
        self.report, self.model = flat.report, model

    def forward(self, *tensors: torch.Tensor) -> Any:
        x = tensors[0].clone()
        if x.dim() == 5:
            x[:, :, -1:] = 0
        return self.model(x, *tensors[1:])


@pytest.fixture
def wrong_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    real = flatconv.fold
    monkeypatch.setattr(flatconv, "fold", lambda model, *a, **k: Wrong(real(model, *a, **k), model))


class TestFailures:
    """A wrong fold is found, shrunk and printed."""

    @pytest.mark.usefixtures("wrong_fold")
    def test_found_shrunk_and_printed(self) -> None:
        found = fuzz.chunk(("operator", 0, 5))
        assert found["cases"]["failed"] == len(found["failures"]) > 1
        for bad in found["failures"]:
            recipe = Recipe.from_json(bad["recipe"])
            assert len(recipe.steps) <= len(recipe_of("operator", bad["seed"]).steps)
            assert bad["failure"] in ("impulses", "dyadics", "rounding", "float64", "own type")
        with pytest.raises(AssertionError):
            exec(compile(found["failures"][0]["source"], "reproduction", "exec"), {})

    @pytest.mark.usefixtures("wrong_fold")
    def test_a_fold_wrong_in_one_slice_of_tiny_numbers_is_found(self) -> None:
        args = next(a for a in CONVS if a["axes"] == 3 and a["kernel"] == [3, 3, 3] and a["padding"] != "same")
        args = args | {"transposed": False, "mode": "zeros", "padding": [1, 1, 1], "channels": [2, 2], "groups": 1}
        recipe = Recipe(((1, 2, 3, 4, 4),), (Step("conv", args | {"function": False}, (0,)),), (1,), 5)
        outcome = check(recipe, Setting(how="dyadic", bits=20), "operator")
        assert outcome.failure

    @pytest.mark.parametrize("raised", [ValueError, flatconv.VerificationError, ZeroDivisionError])
    def test_an_exception_is_a_failure(self, monkeypatch: pytest.MonkeyPatch, raised: type[Exception]) -> None:
        def breaks(*_: Any, **__: Any) -> None:
            raise raised("no")

        monkeypatch.setattr(flatconv, "fold", breaks)
        outcome = check(OPERATORS[3], Setting(), "operator")
        assert outcome.failure == f"fold: {raised.__name__}"

    def test_a_refusal_is_none_but_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuses(*_: Any, **__: Any) -> None:
            raise flatconv.RefusedError("'layer.3' has 7 axes")

        monkeypatch.setattr(flatconv, "fold", refuses)
        outcome = check(OPERATORS[3], Setting(), "operator")
        assert (outcome.failure, outcome.refused) == ("", "# has # axes")

    def test_a_call_at_another_size_that_fails_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Picky(Wrong):
            def forward(self, *tensors: torch.Tensor) -> Any:
                if tensors[0].shape[0] == 5:
                    raise IndexError("five")
                return self.model(*tensors)

        real = flatconv.fold
        monkeypatch.setattr(flatconv, "fold", lambda model, *a, **k: Picky(real(model, *a, **k), model))
        recipe = Recipe(((2, 2, 1, 4, 4),), (Step("unary", {"operator": "relu"}, (0,)),), (1,))
        outcome = check(recipe, Setting(dynamic="auto"), "graph")
        assert outcome.failure == "call: IndexError"
        assert outcome.feed is not None
        assert outcome.feed[1].shapes == [(5, 2, 1, 5, 4)]
        assert "inputs([(5, 2, 1, 5, 4)]" in recipe.source(*outcome.feed)

    def test_a_chunk_that_is_in_the_log_is_not_run_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        log = tmp_path / "log.jsonl"
        todo = [("operator", 0, 3), ("operator", 3, 6)]
        first = fuzz.run(todo[:1], 1, log)
        ran = []
        real = fuzz.chunk
        monkeypatch.setattr(fuzz, "chunk", lambda job: ran.append(job) or real(job))
        both = fuzz.run(todo, 1, log)
        assert ran == todo[1:]
        assert both[0] == first[0]
        assert len(log.read_text().splitlines()) == 2
        assert fuzz.merged(both)["cases"]["run"] == 6


class TestShrink:
    """A planted failure is shrunk to its core."""

    def test_to_one_step(self) -> None:
        start = next(x for x in GRAPHS if len(x.steps) == 20 and any(s.kind == "conv" for s in x.steps[5:15]))

        def fails(recipe: Recipe) -> bool:
            try:
                recipe.module()(*recipe.tensors())
            except Exception:
                return False
            return any(s.kind == "conv" for s in recipe.steps)

        assert fails(start)
        small = shrink(start, fails)
        assert [s.kind for s in small.steps] == ["conv"]
        assert len(small.outputs) == 1
        assert max(small.inputs[0]) <= 3
        assert fails(small)

    def test_keeps_what_the_failure_needs(self) -> None:
        def needed(recipe: Recipe) -> bool:
            kinds = [s.kind for s in prune(recipe).steps]
            return "pad" in kinds and "conv" in kinds

        start = next(x for x in GRAPHS if len(x.steps) >= 8 and needed(x))
        assert sorted(s.kind for s in shrink(start, needed).steps) == ["conv", "pad"]

    def test_prune_keeps_results_and_writes(self) -> None:
        for recipe in GRAPHS[:60]:
            less = prune(replace(recipe, outputs=recipe.outputs[:1]))
            with torch.no_grad():
                wanted = recipe.module()(*recipe.tensors())[0]
                if len(less.inputs) == len(recipe.inputs):
                    assert torch.equal(less.module()(*less.tensors())[0], wanted)


class TestNoFailures:
    """What the long run took for a failure and is none."""

    def test_a_size_that_the_original_refuses_in_float64_alone(self) -> None:
        # Graph 3537: a height of 0, which the kernels of float32 give and those of float64 refuse.
        args = {"axes": 3, "transposed": True, "channels": [1, 2], "kernel": [1, 1, 1], "stride": [1, 2, 1]}
        args |= {"padding": [0, 2, 0], "dilation": [1, 1, 1], "extra": [0, 1, 0], "groups": 1, "bias": False}
        step = Step("conv", args | {"mode": "zeros", "module": "m1", "function": False}, (0,))
        recipe = Recipe(((1, 1, 1, 3, 3),), (step,), (1,), 3537)
        narrow = torch.zeros(4, 1, 1, 2, 2)
        assert recipe.module(dtype=torch.float32)(narrow)[0].shape == (4, 2, 1, 0, 2)
        with pytest.raises(RuntimeError, match="Output size is too small"):
            recipe.module()(narrow.double())
        outcome = check(recipe, Setting("float32", "shared", "auto"), "graph")
        assert outcome.failure == ""
        assert outcome.calls == {"right": 5, cases.IN_FLOAT64: 1}

    def test_a_write_into_sorted_numbers(self) -> None:
        # Graph 1777: their magnitudes are one number expanded, and that cannot be written to.
        steps = (
            Step("along", {"operator": "sort", "dim": 1}, (0,)),
            Step("inplace", {"operator": "set", "axis": 2, "index": 0}, (1,)),
        )
        outcome = check(Recipe(((1, 2, 2, 3, 3),), steps, (2,)), Setting(how="dyadic"), "graph")
        assert outcome.failure == ""
        assert outcome.tally.outputs == {"dyadics": 1, "float64": 1}

    def test_writes_that_read_what_they_change_are_not_drawn(self) -> None:
        # Graph 4284: a tensor copied onto a permuted view of itself.
        draft = Draft([(1, 3, 3, 4, 4)], 0, 1000)
        assert draft.add(Step("unary", {"operator": "relu"}, (0,)))
        assert draft.add(Step("shape", {"how": "permute", "numbers": [0, 2, 1, 3, 4]}, (1,)))
        write = {"operator": "copy", "axis": 2, "index": 0}
        assert not draft.add(Step("inplace", write, (2, 1)))
        assert draft.add(Step("inplace", write, (2, 2)))
        assert draft.add(Step("inplace", write, (2, 0)))


def test_the_source_runs_and_agrees() -> None:
    for what, seed in (("operator", 4), ("operator", 9), ("graph", 6)):
        setting = setting_of(what, seed)
        feed = Feed("dyadic", 3) if setting.how == "dyadic" else Feed()
        scope: dict[str, Any] = {}
        exec(compile(recipe_of(what, seed).source(setting, feed), "reproduction", "exec"), scope)
        assert len(scope["found"]) == len(recipe_of(what, seed).outputs)


def test_other_sizes_keep_channels_and_depth() -> None:
    found = other_sizes([(2, 3, 1, 4, 5)])
    assert [(5, 3, 1, 5, 5)] in found
    assert [(0, 3, 1, 4, 5)] in found
    assert all(s[1:3] == (3, 1) for (s,) in found)


def test_result_says_what_was_run(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.json"
    assert fuzz.main(["--operators", "4", "--graphs", "1", "--start", "50", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["operators"]["seeds"] == [50, 54]
    assert found["graphs"]["cases"]["run"] == 1
    assert found["failures"] == []
    assert len(found["commit"]) == 40
    assert cases.Outcome is Outcome
