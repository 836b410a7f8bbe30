"""The runner: order, choice, what is kept when it is interrupted, when it may go on, and every claim in its quick form."""

import dataclasses
import importlib.util
import json
import re

import pytest
import torch

from flatconv.errors import InputError, MissingExtraError
from flatconv.report import study as report
from flatconv.study import run, saved
from flatconv.study.claims import CLAIMS
from tests.study import made


@pytest.fixture
def ran():
    return []


@pytest.fixture
def claims(ran):
    return [made.experiment(key, ran) for key in ("C1", "C2", "C3")]


def test_claims_run_in_order_with_the_configuration_asked_for(claims, ran):
    told, kept = [], []
    found = run.run(quick=True, claims=claims, progress=told.append, keep=kept.append)
    assert ran == [(k, made.Config()) for k in ("C1", "C2", "C3")]
    assert [len(s.entries) for s in kept] == [1, 2, 3]
    assert kept[-1] == found
    assert found.quick
    assert found.entries[1].config == {"seeds": [0, 1], "rate": 0.5}
    assert "C2 (2 of 3): working" in told
    run.run(claims=claims)
    assert ran[-1] == ("C3", made.Config((0, 1, 2)))


def test_some_claims_only(claims, ran):
    found = run.run(only=["c3", " C1"], claims=claims)
    assert [e.claim.key for e in found.entries] == ["C1", "C3"]
    with pytest.raises(InputError, match=r"no claim 'C7'.*C1, C2, C3"):
        run.run(only=["C7"], claims=claims)


def test_what_was_done_survives_an_interruption_and_is_not_done_again(claims, ran):
    kept = []
    stopped = [claims[0], made.experiment("C2", ran, fails=KeyboardInterrupt()), claims[2]]
    with pytest.raises(KeyboardInterrupt):
        run.run(claims=stopped, keep=kept.append)
    assert [e.claim.key for e in kept[-1].entries] == ["C1"]
    found = run.run(claims=claims, earlier=kept[-1])
    assert [key for key, _ in ran] == ["C1", "C2", "C3"]
    assert [e.claim.key for e in found.entries] == ["C1", "C2", "C3"]
    assert "continued" in found.environment


def test_it_does_not_go_on_with_something_else(claims):
    earlier = run.run(only=["C1"], claims=claims)
    for name in run.SAME:
        other = dataclasses.replace(earlier, environment=dict(earlier.environment) | {name: "other"})
        with pytest.raises(InputError, match=f"{name} is .* and was other"):
            run.run(claims=claims, earlier=other)
    with pytest.raises(InputError, match="this run is quick and the earlier one is full"):
        run.run(claims=claims, earlier=earlier, quick=True)
    changed = dataclasses.replace(earlier.entries[0], config={"seeds": [5]})
    with pytest.raises(InputError, match="configuration of C1"):
        run.run(claims=claims, earlier=dataclasses.replace(earlier, entries=(changed,)))


def test_threads_are_set_and_given_back(claims, ran):
    before = torch.get_num_threads()
    seen = []
    claims[0].run = lambda config, progress: seen.append(torch.get_num_threads()) or made.result()
    found = run.run(only=["C1"], claims=claims, threads=3)
    assert (seen, torch.get_num_threads(), found.environment["threads"]) == ([3], before, "3")
    with pytest.raises(InputError, match="at least one thread"):
        run.run(claims=claims, threads=0)


def test_a_missing_package_is_told_before_any_work(claims, ran, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "skvideo" else find(name, *a))
    with pytest.raises(MissingExtraError, match=r"'scikit-video'.*flatconv\[study\]"):
        run.run(claims=claims)
    assert not ran


def test_the_environment_says_what_may_change_a_number():
    found = run.environment(2)
    assert found.keys() >= {"date", "torch", "numpy", "scikit-learn", "processor", "threads", "Python", *run.SAME}
    assert all(isinstance(v, str) and v for v in found.values())


def test_the_fingerprint_follows_the_code_that_makes_numbers(tmp_path, monkeypatch):
    for name in ("__init__.py", "audit.py", "report/page.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(run.flatconv, "__file__", str(tmp_path / "__init__.py"))
    first = run.source_digest()
    (tmp_path / "report/page.py").write_text("2")
    assert run.source_digest() == first
    (tmp_path / "audit.py").write_text("2")
    assert run.source_digest() != first


def test_claims_are_in_order_and_whole():
    keys = [c.CLAIM.key for c in CLAIMS]
    assert keys == sorted(set(keys))
    for experiment in CLAIMS:
        assert all(dataclasses.astuple(experiment.CLAIM))
        assert type(experiment.FULL) is type(experiment.QUICK)
        assert experiment.FULL != experiment.QUICK
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(experiment.FULL, dataclasses.fields(experiment.FULL)[0].name, None)


def test_every_claim_runs_in_its_quick_form_and_has_its_place_in_the_report(tmp_path):
    found = run.run(quick=True, threads=1)
    assert [e.claim.key for e in found.entries] == [c.CLAIM.key for c in CLAIMS]
    for entry in found.entries:
        assert entry.result.estimates, entry.claim.key
        assert entry.result.charts, entry.claim.key
        assert all(e.low <= e.value <= e.high or e.n < 2 for e in entry.result.estimates), entry.claim.key
    (tmp_path / "study.json").write_text(saved.text(found))
    # A whole number is as good as a float.
    assert json.loads(saved.text(saved.read(tmp_path / "study.json"))) == json.loads(saved.text(found))
    report.write(tmp_path, found)
    page, text = (tmp_path / "study.html").read_text(), (tmp_path / "study.md").read_text()
    assert len(re.findall(r'<section class="claim" aria-labelledby="claim-', page)) == len(CLAIMS)
    for name in re.findall(r"\]\(([^)#]*\.svg)\)", text):
        assert (tmp_path / name).read_text().startswith("<svg")
    assert text.count(".svg)") == sum(len(e.result.charts) for e in found.entries)
