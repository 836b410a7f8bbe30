"""A study goes to JSON and comes back the same; anything else is refused in a sentence."""

import json
import math

import pytest

from flatconv.errors import InputError
from flatconv.study import saved
from tests.study import made


def test_there_and_back(tmp_path):
    study = made.study()
    (tmp_path / "study.json").write_text(saved.text(study))
    found = saved.read(tmp_path / "study.json")
    assert saved.text(found) == saved.text(study)
    estimate = found.entries[0].result.estimates[1]
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
    assert found.entries[0].result.charts == study.entries[0].result.charts
    assert found.entries[0].result.tables == study.entries[0].result.tables


def test_configurations_compare_after_the_journey():
    config = saved.plain_values(made.Config())
    assert config == {"seeds": [0, 1], "rate": 0.5}


def broken():
    def change(**more):
        return json.dumps(json.loads(saved.text(made.study())) | more)

    entry = json.loads(saved.text(made.study()))["entries"][0]
    wrong = json.loads(json.dumps(entry))
    wrong["result"]["verdict"] = "true"
    yield "not json", "{"
    yield "a list", "[]"
    yield "other fields", change(extra=1)
    yield "a field missing", '{"quick": true}'
    yield "a wrong type", change(quick="yes")
    yield "an unknown verdict", change(entries=[wrong])
    yield "entries that are none", change(entries=[3])
    yield "deep", "[" * 100_000
    yield "environment of numbers", change(environment={"torch": 3})


@pytest.mark.parametrize(("name", "text"), list(broken()))
def test_other_files_are_refused(tmp_path, name, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(InputError, match="not the result of a study"):
        saved.read(tmp_path / "study.json")


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        saved.read(tmp_path / "study.json")
