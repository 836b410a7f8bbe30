"""Models and calls that cannot be folded right are refused with a sentence; the model is left as it was."""

import warnings

import pytest
import torch

import flatconv
from tests.bad import models
from tests.bad.table import Bad, nothing_happens, raises, rows


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@rows(models.TABLE)
def test_refused(row: Bad, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, args, options = row.given()
    with nothing_happens(tmp_path):
        raises(row, lambda: flatconv.fold(model, args, **({"dynamic": False} | options)))
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
