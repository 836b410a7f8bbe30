"""What is taken, on times and peaks that the tests make up: no clock decides."""

import importlib
import json
import time

import pytest
import torch
from torch import nn

import flatconv
from flatconv.errors import PrecisionError
from flatconv.tune import alone, cache, running
from flatconv.tune import search as room
from tests.expected import Net, filled, sample

NATIVE = ("as it is", False)
SLOW, FAST = 5.0, 0.1


class World:
    """Costs of forms, and of the original, in seconds; peaks in bytes."""

    def __init__(self, monkeypatch):
        self.cost = {}
        self.original = 1.0
        self.captured = 1.0
        self.peak = {}
        self.original_peak = 10 * 2**20
        self.timed = []
        self.inaccurate = set()
        monkeypatch.setattr(room.Accuracy, "holds", lambda accuracy, call: not self.inaccurate & set(call.choices))
        monkeypatch.setattr(room, "alternate", self.alternate)
        monkeypatch.setattr(alone, "alternate", self.alternate)
        monkeypatch.setattr(room._Search, "_program", lambda search, analysis: self.program(analysis))
        monkeypatch.setattr(alone, "_single", lambda a, node, choice, sizes, device: self.single(choice))
        monkeypatch.setattr(running, "peak", self.peak_of)
        monkeypatch.setattr(alone, "peak", self.peak_of)

    def program(self, analysis):
        sites = analysis.sites.values()

        def call():
            return None

        untouched = all(not s.applied for s in sites)
        choices = [(s.form or "as it is", s.channels_last) for s in sites]
        call.seconds = self.captured if untouched else sum(self.cost.get(c, 1.0) for c in choices) / len(choices)
        call.peak = max(self.peak.get(c, 2**20) for c in choices)
        call.choices = choices
        return call

    def single(self, choice):
        def call():
            return None

        call.seconds, call.peak = self.cost.get(choice, 1.0), self.peak.get(choice, 2**20)
        return call

    def alternate(self, calls, budget, **how):
        self.timed.append(len(calls))
        return tuple([getattr(c, "seconds", self.original)] * 5 for c in calls)

    def peak_of(self, call, device):
        return getattr(call, "peak", self.original_peak)


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def net():
    # One slice at the end of a causal clip is dead weight to no rule here: every form of a whole kernel is possible.
    return filled(nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, (1, 3, 3))))


def fold(model=None, **settings):
    x = sample(1, 2, 4, 6, 7)
    return flatconv.fold(model or net(), (x,), tune=flatconv.Tuning(**settings))


def forms_of(flat):
    return list(flat.report.tuned.forms.values())


def test_the_fastest_form_is_taken(world):
    world.cost = {("sum of slices", False): FAST, ("axis into batch", True): FAST}
    flat = fold()
    assert forms_of(flat) == ["sum of slices", "axis into batch, channels-last"]
    assert flat.report.tuned.chosen == "fastest alone"
    assert flat.report.evidence.runs  # and verified


def test_a_slow_candidate_is_never_kept(world):
    world.cost = {
        ("sum of slices", False): SLOW,
        ("unfold along an axis", False): SLOW,
        ("axis into batch", False): SLOW,
    }
    assert forms_of(fold()) == ["as it is", "as it is"]


def test_a_fast_candidate_that_is_not_accurate_is_never_kept(world):
    world.cost = {("sum of slices", False): FAST, ("axis into batch", True): 0.5}
    world.inaccurate = {("sum of slices", False)}
    flat = fold()
    assert "sum of slices" not in forms_of(flat)
    assert "axis into batch, channels-last" in forms_of(flat)  # the others are tried still
    assert "less accurate than the original left out" in flat.report.tuned.reason


def test_a_form_that_is_fast_alone_and_slow_in_the_model_is_not_kept(world, monkeypatch):
    world.cost = {("sum of slices", False): FAST}
    honest = world.program

    def program(analysis):
        call = honest(analysis)
        if any(s.form == "sum of slices" for s in analysis.sites.values()):
            call.seconds = SLOW
        return call

    monkeypatch.setattr(room._Search, "_program", lambda search, analysis: program(analysis))
    assert forms_of(fold())[0] == "as it is"


def test_the_original_stays_where_it_wins(world):
    world.original, world.captured = 0.5, 0.5
    model = filled(nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, (1, 3, 3))))
    flat = flatconv.fold(model, (sample(1, 2, 1, 6, 7),), tune=flatconv.Tuning())
    assert flat.report.tuned.chosen == "as captured"
    assert "the original wins" in flat.report.tuned.reason
    assert all("conv3d" in str(n.target) for n in flat.graph.nodes if "conv" in str(n.target))
    assert all(not s.rule for s in flat.report.sites)


@pytest.mark.parametrize(
    ("anew", "captured", "chosen"),
    [(1.01, 1.0, "as captured"), (1.01, 1.1, "fastest alone"), (0.9, 0.8, "fastest alone")],
)
def test_the_fastest_of_many_is_timed_anew(world, monkeypatch, anew, captured, chosen):
    world.cost = {("sum of slices", False): FAST}
    honest = room._Search._time

    def time(search, names, words, *part):
        if words == "the choice against the original":
            return {names[0]: [1.0] * 5, names[1]: [captured] * 5, names[2]: [anew] * 5}
        return honest(search, names, words, *part)

    monkeypatch.setattr(room._Search, "_time", time)
    assert fold().report.tuned.chosen == chosen


def test_a_tie_keeps_the_fixed_choice(world):
    world.cost = {("sum of slices", False): 0.99}
    assert forms_of(fold())[0] == "as it is"


def test_one_group_of_the_best_may_change(world, monkeypatch):
    # Alone each is best in channels-last, together the second convolution is not.
    world.cost = {("as it is", True): 0.5}
    honest = world.program

    def program(analysis):
        call = honest(analysis)
        lasts = [s.channels_last for s in analysis.sites.values()]
        call.seconds = {(True, True): 0.8, (True, False): 0.4}.get(tuple(lasts), 1.0)
        return call

    monkeypatch.setattr(room._Search, "_program", lambda search, analysis: program(analysis))
    flat = fold()
    first, second = forms_of(flat)
    assert first == "as it is, channels-last"
    assert "channels-last" not in second
    assert flat.report.tuned.chosen.startswith("fastest alone; ")


def test_branches_are_joined_where_that_is_faster(world, monkeypatch):
    parts = {n: nn.Conv3d(2, 3, (1, 3, 3)) for n in "ab"}
    model = filled(Net(lambda self, x: self.a(x) + self.b(x), **parts))
    honest = world.program
    seconds = {True: FAST, False: 1.0}

    def program(analysis):
        call = honest(analysis)
        call.seconds = seconds[any(s.together for s in analysis.sites.values())]
        return call

    monkeypatch.setattr(room._Search, "_program", lambda search, analysis: program(analysis))
    flat = fold(model)
    assert all(f.endswith("computed together") for f in forms_of(flat))
    assert flat.report.evidence.runs
    again = fold(model)
    assert again.report.tuned.cached
    assert forms_of(again) == forms_of(flat)
    seconds[True] = SLOW
    assert not any(f.endswith("computed together") for f in forms_of(fold(model, cache=False)))


def test_a_form_that_needs_more_memory_is_taken_only_when_allowed(world):
    world.cost = {("unfold along an axis", False): FAST}
    world.peak = {("unfold along an axis", False): 100 * 2**20}
    assert forms_of(fold())[0] == "as it is"
    assert forms_of(fold(more_memory=True))[0] == "unfold along an axis"


def test_where_memory_cannot_be_told_nothing_is_copied(world, monkeypatch):
    world.cost = {("unfold along an axis", False): FAST}
    for module in (running, alone):
        monkeypatch.setattr(module, "peak", lambda call, device: None)
    assert forms_of(fold())[0] == "as it is"


def test_without_time_the_choice_is_made_of_what_is_known(world):
    world.cost = {("sum of slices", False): FAST}
    assert forms_of(fold(budget=1e-9))[0] == "as it is"


def hurried(monkeypatch, groups):
    """There is time for so many groups of convolutions alone; which ones is returned."""
    timed = []
    honest = room.time_alone

    def time_alone(analysis, node, *rest):
        timed.append(analysis.sites[node].weight.shape)
        return honest(analysis, node, *rest)

    monkeypatch.setattr(room, "time_alone", time_alone)
    monkeypatch.setattr(
        room._Search, "_left", lambda search: search.settings.budget * (0.9 if len(timed) < groups else 0.4)
    )
    return timed


def test_without_time_for_all_the_nearest_of_a_kind_says_what_is_fast(world, monkeypatch):
    world.cost = {("sum of slices", False): FAST}
    widths = (8, 4, 3)
    layers = [nn.Conv3d(a, b, 3, padding=1) for a, b in zip((2, 8, 4), widths, strict=True)]
    model = filled(nn.Sequential(*layers, nn.Conv3d(3, 2, (3, 1, 1))))
    timed = hurried(monkeypatch, 2)
    flat = fold(model)
    # One of each kind: the one with most to do, and the one of another kernel.
    assert timed == [(4, 8, 3, 3, 3), (2, 3, 3, 1, 1)]
    assert forms_of(flat) == ["sum of slices"] * 4
    assert set(flat.report.tuned.sites) == {"1", "3"}  # what was not timed has no times


def test_another_kind_says_nothing(world, monkeypatch):
    world.cost = {("sum of slices", False): FAST}
    others = [
        nn.Conv3d(4, 4, 3),
        nn.Conv3d(4, 4, 3, padding=1, groups=2),
        nn.Conv3d(4, 4, (2, 3, 3), padding=1),
        nn.ConvTranspose3d(4, 4, 3, padding=1),
        nn.Conv3d(4, 4, 3, padding=1, stride=(1, 1, 2)),
    ]
    for other in others:
        model = filled(nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.Conv3d(8, 4, 3, padding=1), other))
        with monkeypatch.context() as patched:
            timed = hurried(patched, 1)
            flat = fold(model)
        assert len(timed) == 1
        assert forms_of(flat)[:2] == ["sum of slices"] * 2, other
        assert forms_of(flat)[2] == "as it is", other


def test_a_form_whose_first_call_takes_far_too_long_is_left_out(world, monkeypatch):
    honest = world.single

    def single(choice):
        inner = honest(choice)

        def call():
            if choice == ("unfold along an axis", False):
                time.sleep(0.2)

        call.seconds, call.peak = inner.seconds, inner.peak
        return call

    monkeypatch.setattr(alone, "_single", lambda a, node, choice, sizes, device: single(choice))
    flat = fold()
    told = flat.report.tuned.sites["0"]
    assert "unfold along an axis" not in {t.form for t in told}
    assert {"as it is", "sum of slices"} <= {t.form for t in told}


def test_choices_are_kept(world):
    world.cost = {("sum of slices", False): FAST}
    first = fold()
    timed = len(world.timed)
    again = fold()
    assert len(world.timed) == timed
    assert again.report.tuned.cached
    assert not first.report.tuned.cached
    assert forms_of(first) == forms_of(again)
    assert first.report.tuned.trials == again.report.tuned.trials


@pytest.mark.parametrize("change", ["threads", "size", "engine", "memory", "weights' type"])
def test_another_question_is_another_key(world, change):
    fold()
    timed = len(world.timed)
    if change == "threads":
        before = torch.get_num_threads()
        torch.set_num_threads(before + 1)
        try:
            fold()
        finally:
            torch.set_num_threads(before)
    elif change == "size":
        flatconv.fold(net(), (sample(1, 2, 4, 6, 8),), tune=flatconv.Tuning())
    elif change == "engine":
        fold(engine="compile")
    elif change == "memory":
        fold(more_memory=True)
    else:
        flatconv.fold(net().float(), (sample(1, 2, 4, 6, 7).float(),), tune=flatconv.Tuning())
    assert len(world.timed) > timed


SHORT = '{"choices": [["as it is"]], "joint": [], "stays": false, "told": {}}'


@pytest.mark.parametrize("spoiled", ["", "{", "[]", SHORT, "\x00"])
def test_a_spoiled_cache_is_no_cache(world, spoiled):
    first = fold()
    (file,) = cache.folder().iterdir()
    file.write_text(spoiled)
    again = fold()
    assert not again.report.tuned.cached
    assert forms_of(first) == forms_of(again)
    assert json.loads(file.read_text())["choices"]


def test_a_cached_form_that_does_not_apply_is_not_taken(world):
    fold()
    (file,) = cache.folder().iterdir()
    held = json.loads(file.read_text())
    file.write_text(json.dumps(held | {"choices": [["patches to a matrix product", False]] * 2}))
    again = fold()
    assert not again.report.tuned.cached
    assert forms_of(again) == ["as it is", "as it is"]


def test_without_a_cache_nothing_is_written(world):
    fold(cache=False)
    assert not list(cache.folder().iterdir())


def test_a_cache_that_cannot_be_written(world, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLATCONV_CACHE", str(tmp_path / "file" / "below"))
    assert fold().report.tuned


def test_a_form_that_does_not_run_is_left_out(world, monkeypatch):
    world.cost = {("sum of slices", False): FAST}
    honest = world.single

    def single(choice):
        if choice == ("sum of slices", False):

            def call():
                raise RuntimeError("no kernel for that")

            return call
        return honest(choice)

    monkeypatch.setattr(alone, "_single", lambda a, node, choice, sizes, device: single(choice))
    flat = fold()
    assert forms_of(flat)[0] == "as it is"
    assert "sum of slices" not in {t.form for t in flat.report.tuned.sites["0"]}


def test_a_combination_that_does_not_run_is_left_out(world, monkeypatch):
    world.cost = {("sum of slices", False): FAST}
    honest = world.program

    def program(analysis):
        call = honest(analysis)
        if any(s.form == "sum of slices" for s in analysis.sites.values()):

            def fails():
                raise RuntimeError("out of memory")

            return fails
        return call

    monkeypatch.setattr(room._Search, "_program", lambda search, analysis: program(analysis))
    assert forms_of(fold())[0] == "as it is"


def test_where_formats_do_not_mix_the_ordinary_one_is_tried(world, monkeypatch):
    world.cost = {("sum of slices", True): FAST, ("sum of slices", False): 0.5}
    honest = world.program
    tried = []

    def program(analysis):
        call = honest(analysis)
        tried.append(any(s.channels_last for s in analysis.sites.values()))
        if tried[-1]:

            def fails():
                raise RuntimeError("no code for this mixture")

            return fails
        return call

    monkeypatch.setattr(room._Search, "_program", lambda search, analysis: program(analysis))
    for engine in ("eager", "compile"):
        flat = fold(engine=engine, cache=False)
        assert forms_of(flat)[0] == "sum of slices"
        assert flat.report.tuned.chosen == "fastest alone in the ordinary format"
        assert any(tried)


def test_where_they_do_the_ordinary_one_is_not(world):
    world.cost = {("sum of slices", True): FAST, ("sum of slices", False): 0.5}
    flat = fold()
    assert flat.report.tuned.chosen == "fastest alone"
    assert not any("ordinary" in t.name for t in flat.report.tuned.trials)


def test_a_choice_that_is_not_accurate_enough_gives_way_to_the_fixed_one(world, monkeypatch):
    module = importlib.import_module("flatconv.fold")
    world.cost = {("sum of slices", False): FAST}
    right, judged = module.verify_all, []

    def verify_all(captured, analysis, *rest):
        judged.append([s.form for s in analysis.sites.values()])
        if "sum of slices" in judged[-1]:
            raise PrecisionError("three times as much")
        return right(captured, analysis, *rest)

    monkeypatch.setattr(module, "verify_all", verify_all)
    flat = fold()
    assert len(judged) == 2
    assert flat.report.tuned.chosen == "fixed"
    assert "three times as much" in flat.report.tuned.reason
    assert not any("sum of slices" in s.rule for s in flat.report.sites)


def test_a_wrong_form_is_an_error_and_no_reason_to_try_another(world, monkeypatch):
    module = importlib.import_module("flatconv.fold")
    world.cost = {("sum of slices", False): FAST}

    def verify_all(*given):
        raise flatconv.VerificationError("differs in float64")

    monkeypatch.setattr(module, "verify_all", verify_all)
    with pytest.raises(flatconv.VerificationError, match="differs in float64"):
        fold()


def test_random_numbers_are_left_as_they_were(world):
    model = net()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fold(model)
    assert torch.equal(torch.rand(3), expected)


# --- what is asked for


def test_a_fixed_choice_times_nothing(world, monkeypatch):
    x = sample(1, 2, 4, 6, 7)
    assert flatconv.fold(net(), (x,), tune=False).report.tuned is None
    monkeypatch.setenv("FLATCONV_TUNE", "0")
    assert flatconv.fold(net(), (x,)).report.tuned is None
    assert not world.timed
    monkeypatch.setenv("FLATCONV_TUNE", "1")
    assert flatconv.fold(net(), (x,)).report.tuned


def test_a_model_in_train_mode_is_not_timed(world):
    assert flatconv.fold(net().train(), (sample(1, 2, 4, 6, 7),), tune=flatconv.Tuning()).report.tuned is None


def test_the_model_is_as_it_was(monkeypatch):
    model = net()
    model.register_buffer("calls", torch.zeros(()))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fold(model, budget=1.0)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "tensorrt"}, "it may be 'eager' or 'compile'"),
        ({"budget": 0}, "seconds of timing"),
        ({"budget": "long"}, "seconds of timing"),
        ({"budget": float("nan")}, "seconds of timing"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(flatconv.InputError, match=words):
        flatconv.Tuning(**settings)


@pytest.mark.parametrize("tune", ["yes", None, 1.0])
def test_bad_tune(tune):
    with pytest.raises(flatconv.InputError, match="tune is"):
        flatconv.fold(net(), (sample(1, 2, 4, 6, 7),), tune=tune)


# --- for real


def test_real_times():
    flat = fold(budget=120.0)
    tuned = flat.report.tuned
    assert tuned.original > 0
    assert {"as captured", "fixed"} <= {t.name for t in tuned.trials}
    assert set(tuned.sites) == {"0", "2"}
    assert all(t.seconds > 0 for each in tuned.sites.values() for t in each)
    assert tuned.chosen in str(flat.report)
    assert importlib.import_module("flatconv.report.fold")
    assert flat.report.to_dict()["tuned"]["engine"] == "eager"
