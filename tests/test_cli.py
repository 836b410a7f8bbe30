"""The command line on real arguments: tables, JSON, files, exit codes, and a sentence for every wrong input."""

import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from rich.console import Console

import flatconv
from flatconv import cli, spec
from flatconv.commands import audit as audit_command
from flatconv.commands import console
from tests.stack import making

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


def test_audit_writes_a_page(models, capsys, monkeypatch):
    arguments = ("audit", f"{models}:net", "--input", "1x3x1x16x20", "--html", "page.html")
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert "2 sites" in out
    assert "Wrote page.html" in err
    with open("page.html", encoding="utf-8") as f:
        assert "Only 33.3 % of the multiply-adds" in f.read()
    # Said before any work is done.
    monkeypatch.setattr(audit_command, "run_audit", None)
    for path, words in (("page.html", "exists already"), (".", "is a folder"), ("none/page.html", "no folder")):
        code, _, err = run(capsys, *arguments[:-1], path)
        assert code == 2
        assert words in " ".join(err.split())


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


def test_stack_writes_its_windows(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    making.pictures(tmp_path / "frames", 11)
    code, out, err = run(
        capsys, "stack", "frames", "--stack", "time:4,step=3,edge=replicate", "-o", "out", "--size", "8x10"
    )
    assert code == 0
    assert "11 of 3×8×10" in out
    assert "time:4,stride=1,step=3,edge=replicate: depth is time" in out
    assert "replicate, in 1 of 4 windows" in out
    assert "0–3" in out
    assert "Wrote 4 windows and stack.json to out" in err
    names = [f"window-{i:06d}.safetensors" for i in range(4)]
    assert sorted(os.listdir("out")) == ["stack.json", *names]
    told = json.loads((tmp_path / "out/stack.json").read_text())
    assert [f["frames"] for f in told["files"]][-1] == [9, 10, 10, 10]
    made = flatconv.stack("frames", "time:4,step=3,edge=replicate", size=(8, 10))
    for name, window in zip(names, made, strict=True):
        assert torch.equal(safetensors.torch.load_file(f"out/{name}")["x"], window.data)
    assert run(capsys, "stack", "frames", "--stack", "single", "-o", "out")[0] == 2
    assert run(capsys, "stack", "frames", "--stack", "single", "-o", "out", "--force", "--format", "npy")[0] == 0
    assert np.load("out/window-000010.npy").shape == (1, 3, 1, 12, 16)


def test_stack_json_and_dry_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    making.series(tmp_path / "ct", [0.0, 1.0, 2.0])
    arguments = (
        "stack",
        "ct",
        "--stack",
        "slices:3,edge=pad",
        "--patches",
        "4x4",
        "--overlap",
        "1",
        "--modality",
        "CT",
    )
    code, out, _ = run(capsys, *arguments, "--json", "--dry-run", "-o", "out")
    found = json.loads(out)
    assert code == 0
    assert not os.path.exists("out")
    assert (found["windows"], found["patches"], found["shape"]) == (3, 6, [1, 1, 3, 4, 4])
    assert found["files"][0]["frames"] == [None, 0, 1]
    assert found["files"][-1]["patch"] == [2, 4]
    code, out, err = run(capsys, *arguments)
    assert "row 2, column 4" in out
    assert "zeros, in 2 of 3 windows" in out
    assert "Nothing was written" in err


def test_audit_of_a_stack(models, capsys, tmp_path):
    making.pictures(tmp_path / "frames", 6)
    call = ("--images", "frames", "--stack", "time:5")
    code, out, _ = run(capsys, "audit", f"{models}:net", *call)
    assert code == 0
    assert "1×3×5×12×16" in out
    assert "■ ■ ■" in out
    assert "What stacking changes: depth 5 (time:5,stride=1,step=5,edge=drop) against one image" in out
    assert "2 of 2 kernels meet more data when images are stacked" in " ".join(out.split())
    code, out, _ = run(capsys, "audit", f"{models}:net", *call, "--json")
    found = json.loads(out)
    assert found["compared"]["sites"][0]["live_taps"] == {"stacked": [0, 1, 2], "single": [1]}
    assert found["compared"]["useful"][1] == pytest.approx(1 / 3)
    assert found["stack"]["windows"] == 1
    assert found["totals"]["useful_macs"] == found["totals"]["macs"]
    code, out, _ = run(capsys, "audit", f"{models}:net", "--images", "frames", "--stack", "single")
    assert "No kernel meets more data" in out


def test_a_model_that_needs_its_depth(models, capsys, tmp_path):
    making.pictures(tmp_path / "frames", 3)
    (tmp_path / "deep.py").write_text("from torch import nn\ndef net():\n    return nn.Conv3d(3, 4, 3)\n")
    code, out, _ = run(capsys, "audit", "deep.py:net", "--images", "frames", "--stack", "time:3")
    assert code == 0
    assert "On one image the model does not run" in out


def test_fold_of_a_stack(models, capsys, tmp_path):
    np.save("volume.npy", np.random.default_rng(0).random((3, 2, 12, 16), dtype=np.float32))
    call = ("--images", "volume.npy", "--layout", "CDHW", "--stack", "single", "--size", "8", "--no-verify")
    code, out, _ = run(capsys, "fold", f"{models}:net", *call, "--json", "-o", "out")
    assert code == 0
    assert json.loads(out)["stack"]["shape"] == [1, 3, 1, 8, 8]
    assert json.loads((tmp_path / "out/report.json").read_text())["stack"]["source"] == "volume.npy"
    code, out, _ = run(capsys, "peak", f"{models}:net", *call[:-1])
    assert code == 0


STACKS = [
    ("no such source", ["stack", "none", "--stack", "single"], "there is no file 'none'"),
    ("no way to stack", ["stack", "frames"], "--stack"),
    ("unknown way", ["stack", "frames", "--stack", "movie"], "single, time:N"),
    ("too short", ["stack", "frames", "--stack", "time:9"], "there are 3"),
    ("negative stride", ["stack", "frames", "--stack", "time:2,stride=-2"], "stride is -2"),
    ("no size", ["stack", "frames", "--stack", "single", "--size", "big"], "--size 'big' is no size"),
    ("no patches", ["stack", "frames", "--stack", "single", "--patches", "99"], "height of 99"),
    ("unknown format", ["stack", "frames", "--stack", "single", "--format", "gif"], "safetensors or npy"),
    ("unknown channels", ["stack", "frames", "--stack", "single", "--channels", "cmyk"], "rgb, gray, stored"),
    ("output is a file", ["stack", "frames", "--stack", "single", "-o", "models.py"], "is a file"),
    ("empty folder", ["stack", "empty", "--stack", "single"], "it is empty"),
    ("damaged picture", ["stack", "bad", "--stack", "single", "-o", "out"], "img2.png' cannot be read as a picture"),
    ("images without a way", ["audit", "models.py:net", "--images", "frames"], "--images needs --stack"),
    ("a way without images", ["audit", "models.py:net", "--stack", "single"], "--stack is for --images SOURCE"),
    ("size without images", ["fold", "models.py:net", "--input", "1x3x1x8x8", "--size", "8"], "--size is for --images"),
    (
        "both",
        ["audit", "models.py:net", "--images", "frames", "--stack", "single", "--image", "frames/img1.png"],
        "leave one out",
    ),
    ("array without a layout", ["audit", "models.py:net", "--images", "a.npy", "--stack", "single"], "needs a layout"),
]


@pytest.mark.parametrize(("arguments", "words"), [w[1:] for w in STACKS], ids=[w[0] for w in STACKS])
def test_wrong_stacks_get_a_sentence(models, capsys, tmp_path, arguments, words):
    making.pictures(tmp_path / "frames", 3)
    making.pictures(tmp_path / "bad", 3)
    data = (tmp_path / "bad/img2.png").read_bytes()
    (tmp_path / "bad/img2.png").write_bytes(data[:200])  # its header can be read, its pixels cannot
    (tmp_path / "empty").mkdir()
    np.save("a.npy", np.zeros((3, 1, 8, 8)))
    before = sorted(os.listdir())
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err + out
    assert sorted(n for n in os.listdir() if n != "__pycache__") == before


def test_a_bar_on_a_terminal(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    making.pictures(tmp_path / "frames", 3)
    monkeypatch.setattr(console, "err", Console(stderr=True, force_terminal=True, width=100))
    code, out, err = run(capsys, "stack", "frames", "--stack", "single", "-o", "out")
    assert code == 0
    assert "stacking" in err
    assert "3/3" in err
    assert "\x1b" not in out
