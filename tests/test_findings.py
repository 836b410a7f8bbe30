"""Results are plain numbers and cannot be changed afterwards."""

import dataclasses
import json

import pytest

from flatconv.findings import Verdict
from tests.study import made


def test_a_study_is_plain_containers():
    found = made.study().to_dict()
    assert json.loads(json.dumps(found))["entries"][0]["result"]["verdict"] == "confirmed"
    assert found["entries"][0]["result"]["tables"][0]["rows"][1][1]["unit"] == "ms"


def test_results_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.result().verdict = "refuted"


def test_there_are_four_verdicts():
    assert set(Verdict.__args__) == {"confirmed", "corrected", "refuted", "undecided"}
