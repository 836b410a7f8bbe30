"""The command line on real arguments: tables, JSON, files, exit codes, and a sentence for every wrong input."""

import json
import os

import pytest
import safetensors.torch
import torch
from PIL import Image

from flatconv import cli, spec
from flatconv.commands import audit as audit_command

MODELS = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 3, 3, padding=1), nn.Tanh())

def broken():
    raise ValueError("no weights here")

def number():
    return 3

class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x

def branch():
    return Branch()

def scripted():
    return torch.jit.script(nn.Conv3d(3, 4, 3))

def quantised():
    m = nn.Conv3d(3, 4, 3)
    m.register_buffer("q", torch.quantize_per_tensor(torch.randn(2), 0.1, 0, torch.qint8))
    return m

def sparse():
    m = nn.Conv3d(3, 4, 3)
    m.register_buffer("s", torch.eye(3).to_sparse())
    return m
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    return "models.py"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    text = capsys.readouterr()
    return stopped.value.code or 0, text.out, text.err


def test_audit_table(models, capsys):
    code, out, _ = run(capsys, "audit", f"{models}:net", "--input", "1x3x1x16x20")
    assert code == 0
    assert "· ■ ·" in out
    assert "taps 0, 2 meet only zeros" in out
    assert "2 sites" in out


def test_audit_json(models, capsys):
    code, out, err = run(capsys, "audit", f"{models}:net", "--input", "1x3x1x16x20", "--json")
    found = json.loads(out)
    assert code == 0
    assert [s["live_taps"] for s in found["sites"]] == [[1], [1]]
    assert found["totals"]["useful_macs"] * 3 == found["totals"]["macs"]
    assert "capturing" in err  # progress does not go where the numbers go


def test_fold_writes_what_it_says(models, capsys, tmp_path):
    code, out, err = run(capsys, "fold", f"{models}:net", "--input", "1x3x1x16x20", "-o", "out")
    assert code == 0
    names = ["folded.pt2", "folded.py.txt", "folded.safetensors", "report.html", "report.json", "report.txt"]
    assert sorted(os.listdir("out")) == names
    assert all(n in err for n in names)
    assert "conv2d" in out
    assert "2 exact" in out
    x = torch.randn(1, 3, 1, 16, 20)
    (made,) = torch.export.load("out/folded.pt2").module()(x)
    assert torch.allclose(made, spec.load_model(f"{models}:net")(x), atol=1e-6)
    assert safetensors.torch.load_file("out/folded.safetensors")["0.weight"].shape == (4, 3, 3, 3)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["sites"][0]["evidence"]["level"] == "exact"
    assert "conv3d" not in (tmp_path / "out/folded.py.txt").read_text()


def test_dry_run_and_json(models, capsys):
    code, out, _ = run(capsys, "fold", f"{models}:net", "--input", "1x3x1x16x20", "-o", "out", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["sites"][0]["becomes"] == "conv2d"
    assert not os.path.exists("out")


def test_results_are_overwritten_only_by_force(models, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/report.txt").write_text("mine")
    arguments = ("fold", f"{models}:net", "--input", "1x3x1x16x20", "-o", "out", "--no-verify")
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "not empty" in err
    assert (tmp_path / "out/report.txt").read_text() == "mine"
    assert run(capsys, *arguments, "--force")[0] == 0
    assert "Evidence: none" in (tmp_path / "out/report.txt").read_text()


def test_a_picture_goes_in_and_pictures_come_out(models, capsys):
    Image.new("RGB", (20, 16), (200, 30, 90)).save("photo.png")
    code, _, _ = run(capsys, "fold", f"{models}:net", "--image", "photo.png", "-o", "out", "--no-verify")
    assert code == 0
    with Image.open("out/compare.png") as page:
        assert page.height > 16
        assert page.width >= 4 * 20


def test_files_of_weights_and_trusted_models(models, capsys):
    from flatconv.spec import load_model

    net = load_model(f"{models}:net")
    safetensors.torch.save_file({k: v * 2 for k, v in net.state_dict().items()}, "w.safetensors")
    torch.save(net, "m.pt")
    call = ("--input", "1x3x1x16x20", "--no-verify", "--static")
    code, _, _ = run(capsys, "fold", f"{models}:net", "--state", "w.safetensors", *call, "-o", "out")
    assert code == 0
    made = safetensors.torch.load_file("out/folded.safetensors")["0.bias"]
    assert torch.equal(made, net[0].bias.detach() * 2)
    assert run(capsys, "audit", "m.pt", "--trust", "--input", "1x3x1x16x20")[0] == 0
    code, out, _ = run(capsys, "fold", "m.pt", "--trust", *call, "--json", "--measure")
    assert code == 0
    memory = json.loads(out)["measured"]["peak_memory"]
    assert memory.keys() == {"original", "folded"}
    if os.path.exists("/proc/self/clear_refs"):
        assert all(isinstance(v, int) for v in memory.values())  # the other process took the same model and call


def test_a_terminal_without_our_signs(models, capsys, monkeypatch):
    import io
    import sys

    for kind in ("ascii", "latin-1"):
        held = io.TextIOWrapper(io.BytesIO(), encoding=kind)
        monkeypatch.setattr(sys, "stdout", held)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["audit", f"{models}:net", "--input", "1x3x1x16x20"])
        assert not stopped.value.code
        held.flush()
        assert b"multiply-adds" in held.buffer.getvalue()


def test_shared_weights_and_static(models, capsys):
    code, out, _ = run(capsys, "fold", f"{models}:net", "--input", "2x3x1x9x8", "--weights", "shared", "--static")
    assert code == 0
    assert "may change from call to call: none" in out


WRONG = [
    ("no input", ["audit", "models.py:net"], 2, "--input 1x3x1x256x256"),
    ("wrong rank", ["audit", "models.py:net", "--input", "3x16"], 2, "(3, 16)"),
    ("wrong channels", ["fold", "models.py:net", "--input", "1x4x1x16x16"], 2, "(1, 4, 1, 16, 16)"),
    ("no size", ["fold", "models.py:net", "--input", "big"], 2, "1x3x1x256x256"),
    ("too big", ["fold", "models.py:net", "--input", "99999x99999x99"], 2, "elements"),
    ("no dtype", ["fold", "models.py:net", "--input", "1x3x1x8x8:half2"], 2, "half2"),
    ("unknown argument", ["fold", "models.py:net", "--input", "y=1x3x1x8x8"], 2, "signature"),
    ("no file", ["fold", "none.py:net", "--input", "1x3x1x8x8"], 2, "none.py"),
    ("no factory", ["fold", "models.py:nut", "--input", "1x3x1x8x8"], 2, "it has"),
    ("no name", ["fold", "models.py", "--input", "1x3x1x8x8"], 2, "models.py:factory"),
    ("no package", ["fold", "no_such_package:net", "--input", "1x3x1x8x8"], 2, "no_such_package"),
    ("factory raises", ["fold", "models.py:broken", "--input", "1x3x1x8x8"], 2, "no weights here"),
    ("not a model", ["fold", "models.py:number", "--input", "1x3x1x8x8"], 2, "made a int"),
    ("weights only", ["fold", "weights.pt", "--input", "1x3x1x8x8"], 2, "weights.pt"),
    ("not a picture", ["fold", "models.py:net", "--image", "models.py"], 2, "picture"),
    ("no picture", ["fold", "models.py:net", "--image", "none.png"], 2, "none.png"),
    ("no method", ["fold", "models.py:net", "--input", "1x3x1x8x8", "--method", "decode"], 2, "decode"),
    ("no such weights", ["fold", "models.py:net", "--input", "1x3x1x8x8", "--weights", "new"], 2, "folded or shared"),
    ("output is a file", ["fold", "models.py:net", "--input", "1x3x1x8x8", "-o", "models.py"], 2, "is a file"),
    (
        "output in no place",
        ["fold", "models.py:net", "--input", "1x3x1x8x8", "-o", "models.py/out"],
        2,
        "cannot be written",
    ),
    ("data-dependent branch", ["fold", "models.py:branch", "--input", "1x3x1x8x8"], 3, "cannot be captured"),
    ("TorchScript", ["fold", "models.py:scripted", "--input", "1x3x1x8x8"], 3, "TorchScript"),
    ("quantised", ["fold", "models.py:quantised", "--input", "1x3x3x8x8"], 3, "'q' is quantised"),
    ("sparse", ["fold", "models.py:sparse", "--input", "1x3x3x8x8"], 3, "'s' is torch.sparse"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
@pytest.mark.filterwarnings("ignore")
def test_wrong_input_gets_a_sentence(models, capsys, arguments, code, words):
    if arguments[0] == "fold" and "-o" not in arguments:
        arguments = [*arguments, "-o", "out"]
    before = sorted(os.listdir())
    found, out, err = run(capsys, *arguments)
    assert found == code
    flowing = " ".join(err.split())
    assert "error:" in flowing
    assert words in flowing
    assert "Traceback" not in err + out
    assert sorted(n for n in os.listdir() if n != "__pycache__") == before


def test_usage_errors_exit_with_2(capsys):
    assert run(capsys, "fold")[0] == 2
    assert run(capsys, "frobnicate")[0] == 2


def test_a_bug_is_called_one(models, capsys, monkeypatch):
    monkeypatch.setattr(audit_command, "run_audit", lambda *a, **k: 1 / 0)
    code, _, err = run(capsys, "audit", f"{models}:net", "--input", "1x3x1x8x8")
    assert code == 1
    assert "bug in flatconv" in " ".join(err.split())


def test_failed_verification_writes_nothing(models, capsys, monkeypatch):
    from flatconv.ops import conv

    real = conv._join_taps

    def flipped(w, plan, dim, call):
        return real(call(torch.ops.aten.flip.default, w, [3]), plan, dim, call)

    monkeypatch.setattr(conv, "_join_taps", flipped)
    code, _, err = run(capsys, "fold", f"{models}:net", "--input", "1x3x1x16x20", "-o", "out")
    assert code == 4
    assert "Nothing was written" in " ".join(err.split())
    assert not os.path.exists("out")
