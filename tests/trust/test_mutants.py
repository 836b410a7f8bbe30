"""The mutants apply to the product as it is, cover every trap, and the runner tells those noticed from those that are not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trust import alarms
from trust.mutants import MUTANTS, Mutant
from trust.mutate import LAYERS, SOURCE, Verdict, totals
from trust.trap import FIELD, SENTENCES

ROOT = Path(__file__).parents[2]


def test_there_are_enough_and_names_are_unique():
    names = [m.name for m in MUTANTS]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("key", SENTENCES)
def test_every_trap_has_a_mutant(key):
    assert any(m.trap == key for m in MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_mutant_applies(mutant):
    assert mutant.trap in SENTENCES | FIELD
    source = (SOURCE / mutant.file).read_text()
    changed = mutant.apply(source)
    assert changed != source
    compile(changed, mutant.file, "exec")


@pytest.mark.parametrize("old", ["no such text", "import"])
def test_text_that_is_not_there_exactly_once_is_refused(old):
    mutant = Mutant("m", "border", "fold.py", old, "x", "")
    with pytest.raises(ValueError, match=r"mutant 'm': its text occurs \d+ times in fold.py, not once"):
        mutant.apply((SOURCE / "fold.py").read_text())


@pytest.mark.parametrize("alarm", alarms.ALARMS, ids=lambda a: a.name)
def test_the_product_raises_every_alarm(alarm):
    assert alarm.missed() is None


def test_an_alarm_that_is_not_raised_is_missed(monkeypatch):
    monkeypatch.setattr("flatconv.verify.FLOAT64_LIMIT", 1e-2)
    assert alarms.missed() == "all weights a little larger: a wrong fold passed"


def test_totals():
    border = Mutant("a", "border", "", "", "", "")
    found = totals(
        [
            Verdict(border, {LAYERS[0]: "", "traps": ""}),
            Verdict(Mutant("b", "border", "", "", "", ""), {"traps": "", "crash": ""}),
            Verdict(Mutant("c", "flatten", "", "", "", ""), {"crash": ""}),
            Verdict(Mutant("d", "flatten", "", "", "", "")),
        ]
    )
    assert found["mutants"] == 4
    assert found["caught"] == 3
    assert found["survivors"] == ["d"]
    assert found["by layer"] | {"site oracle": 1, "traps": 2, "crash": 1} == found["by layer"]
    assert found["by this layer alone"]["traps"] == 1
    assert found["not by the product's own verification"] == ["b", "c"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "trust.mutate", "--jobs", "1", *arguments], cwd=ROOT, capture_output=True, text=True
    )


QUICK = ("--traps", "symmetric", "causal", "strided-causal", "lazy", "--layers", *LAYERS[:4])


def test_mutants_that_are_noticed(tmp_path):
    path = tmp_path / "found.json"
    done = run("--only", "tap-off-by-one", "--only", "absorbed-sides-swapped", "--json", str(path), *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 mutants caught" in done.stdout
    found = json.loads(path.read_text())
    assert found["totals"]["survivors"] == []
    assert {m["name"] for m in found["mutants"]} == {"tap-off-by-one", "absorbed-sides-swapped"}
    assert all("traps" in m["layers"] for m in found["mutants"])
    assert found["commit"]
    assert str(ROOT) not in path.read_text()


def test_a_harmless_change_is_a_survivor():
    done = run(
        "--substitute",
        "rules/merge_taps.py",
        "if len(groups) == len(axis.taps):",
        "if len(axis.taps) == len(groups):",
        *QUICK,
    )
    assert done.returncode == 1
    assert "substitute: not noticed" in done.stdout
    assert "Survivors: substitute" in done.stdout


def test_unknown_names_are_refused():
    done = run("--only", "no such mutant")
    assert done.returncode == 2
    assert "no such mutant or trap: no such mutant" in done.stderr
