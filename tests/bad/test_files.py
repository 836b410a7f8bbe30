"""Hostile and broken files are refused with a sentence, and nothing in them is run or unpacked."""

import torch
from torch import nn

from flatconv.inputs import read_image
from flatconv.spec import load_model, load_state
from tests.bad import files
from tests.bad.table import Bad, little_memory, nothing_happens, raises, rows

OPEN = {
    "model": lambda name: load_model(name, trust=True),
    "untrusted": load_model,
    "state": lambda name: load_state(files_model(), name, trust=True),
    "untrusted state": lambda name: load_state(files_model(), name),
    "image": read_image,
}


def files_model() -> nn.Module:
    return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4)).eval()


@rows(files.TABLE)
def test_refused(row: Bad, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    how, name, make = row.given
    content = make(tmp_path / name)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with nothing_happens(tmp_path), little_memory():
        raises(row, lambda: OPEN[how](name))
    assert "Traceback" not in capfd.readouterr().err


def test_the_hostile_pickle_does_run_where_it_is_trusted(tmp_path, monkeypatch):
    """Or else no row above would show anything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pt").write_bytes(files.saved(files.Hostile()))
    torch.load("m.pt", weights_only=False).close()
    assert (tmp_path / files.CANARY).exists()


def test_weights_that_do_not_fit_change_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").write_bytes(files.state(files.put("2.weight", torch.ones(1)))(tmp_path))
    model = files_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    row = next(r for r in files.TABLE if r.name == "one name too many")
    raises(row, lambda: load_state(model, "w.safetensors"))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
