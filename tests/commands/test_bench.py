"""``flatconv bench`` as people type it: what it writes, what it says of wrong arguments. No time is asserted."""

import json
import os
import sys
import xml.etree.ElementTree as ET

import pytest
import torch

from flatconv import cli
from flatconv.commands import bench as command

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 4, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x))

    def decode(self, x):
        return {"y": self(x)}

class ByHand(nn.Module):
    def __init__(self, tap):
        super().__init__()
        net = Net()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.conv.load_state_dict({"weight": net.conv.weight[:, :, tap], "bias": net.conv.bias})

    def forward(self, x):
        return torch.relu(self.conv(x[:, :, 0]))

class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x

net = Net
branch = Branch
def by_hand(): return ByHand(1)
def wrong(): return ByHand(0)
def broken(): raise ValueError("no weights here")
"""
SIZES = ("--input", "1x3x1x8x9")
QUICK = ("--quick", "--threads", "1", "--no-verify")


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", *map(str, arguments)])
    text = capsys.readouterr()
    return stopped.value.code or 0, text.out, text.err


def test_it_writes_numbers_and_a_figure(models, capsys):
    code, out, err = run(
        capsys, "models.py:net", *SIZES, *QUICK, "--reference", "models.py:by_hand", "-o", "out",
        "--engines", "eager,onnxruntime,openvino",
    )  # fmt: skip
    assert code == 0, err
    assert sorted(os.listdir("out")) == ["bench.json", "bench.svg", "bench.txt"]
    assert "Wrote bench.json, bench.svg, bench.txt to out" in err
    assert "timing in PyTorch eager" in err
    assert "original / folded" in out
    assert "folded / reference" in out
    found = json.loads((models / "out/bench.json").read_text())
    assert [r["engine"] for r in found["rows"]] == ["eager", "onnxruntime", "openvino"]
    for row in found["rows"]:
        for side in row["sides"]:
            if not side["why_not"]:
                assert len(side["seconds"]) == 2
                assert side["time"]["low"] <= side["time"]["median"] <= side["time"]["high"]
                assert side["error"] <= found["tolerance"]
    eager = found["rows"][0]
    assert [s["side"] for s in eager["sides"]] == ["original", "folded", "reference"]
    assert eager["ratios"].keys() == {"original/folded", "original/reference", "folded/reference"}
    assert found["weights"]["folded"] < found["weights"]["original"]
    assert found["peak_memory"].keys() == {"original", "folded", "reference"}
    if os.path.exists("/proc/self/clear_refs"):
        assert all(isinstance(v, int) for v in found["peak_memory"].values())  # the other process took the same call
    assert found["settings"]["threads"] == 1
    assert found["environment"]["torch"] == torch.__version__
    assert ET.fromstring((models / "out/bench.svg").read_text()).tag.endswith("svg")
    assert "original / folded" in (models / "out/bench.txt").read_text()


def test_json_method_and_types(models, capsys):
    code, out, err = run(
        capsys, "models.py:net", *SIZES, *QUICK, "--method", "decode", "--dtype", "bfloat16", "--no-memory", "--json",
        "--engines", "openvino,eager", "--static", "--rounds", "1", "--seconds", "0",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    eager, openvino = found["rows"]
    assert found["method"] == "decode"
    assert found["settings"]["dtype"] == "bfloat16"
    assert found["inputs"] == [["x", [1, 3, 1, 8, 9], "bfloat16"]]
    assert found["peak_memory"] == {}
    assert all(len(s["seconds"]) == 1 for s in eager["sides"])
    assert "float32" in openvino["why_not"]
    assert sorted(os.listdir()) == ["models.py"] or "__pycache__" in os.listdir()


def test_a_reference_that_is_another_function_has_no_time(models, capsys):
    code, out, _ = run(
        capsys, "models.py:net", *SIZES, *QUICK, "--no-memory", "--engines", "eager", "--reference", "models.py:wrong"
    )
    assert code == 0
    assert "No time in PyTorch eager, reference: its output is not the original's" in " ".join(out.split())


def test_an_engine_that_is_missing_is_a_row(models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    code, out, _ = run(capsys, "models.py:net", *SIZES, *QUICK, "--no-memory", "--engines", "openvino")
    assert code == 0
    assert "flatconv[bench]" in "".join(out.split())


def test_without_matplotlib_the_numbers_are_kept(models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ("models.py:net", *SIZES, *QUICK, "--no-memory", "--engines", "eager", "-o", "out")
    code, _, err = run(capsys, *arguments)
    assert code == 0
    assert sorted(os.listdir("out")) == ["bench.json", "bench.txt"]
    assert "No figure" in err
    assert run(capsys, *arguments)[0] == 2
    assert run(capsys, *arguments, "--force")[0] == 0


WRONG = [
    ("no input", ("models.py:net",), 2, "--input 1x3x1x256x256"),
    ("no engine", ("models.py:net", *SIZES, "--engines", "eager,tensorrt"), 2, "'tensorrt'"),
    ("no engines", ("models.py:net", *SIZES, "--engines", ","), 2, "names none"),
    ("no device", ("models.py:net", *SIZES, "--device", "tpu"), 2, "--device is 'tpu'; it may be cpu or cuda"),
    ("no type", ("models.py:net", *SIZES, "--dtype", "int8"), 2, "float32, bfloat16 or float16"),
    ("no threads", ("models.py:net", *SIZES, "--threads", "0"), 2, "--threads is 0"),
    ("no rounds", ("models.py:net", *SIZES, "--rounds", "-1"), 2, "--rounds is -1"),
    ("no time", ("models.py:net", *SIZES, "--seconds", "-1"), 2, "--seconds is -1"),
    ("endless time", ("models.py:net", *SIZES, "--seconds", "nan"), 2, "--seconds is nan"),
    ("no model", ("models.py:nut", *SIZES), 2, "has no 'nut'"),
    ("no reference", ("models.py:net", *SIZES, "--reference", "models.py:broken"), 2, "no weights here"),
    ("no method", ("models.py:net", *SIZES, "--method", "encode"), 2, "encode"),
    ("wrong size", ("models.py:net", "--input", "1x5x1x8x9"), 2, "(1, 5, 1, 8, 9)"),
    ("refused", ("models.py:branch", *SIZES), 3, "branch"),
    ("output is a file", ("models.py:net", *SIZES, "-o", "models.py"), 2, "is a file"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_wrong_arguments_get_a_sentence(models, capsys, arguments, code, words):
    more = () if "-o" in arguments else ("-o", "out")
    found, out, err = run(capsys, *QUICK, *more, "--no-memory", "--engines=eager", *arguments)
    assert found == code, err
    assert out == ""
    assert words in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert not os.path.exists("out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_gpu(models, capsys):
    code, _, err = run(capsys, "models.py:net", *SIZES, "--device", "cuda", "-o", "out")
    assert code == 2
    assert "no CUDA device" in " ".join(err.split())
    assert not os.path.exists("out")


def test_a_fold_that_is_wrong_writes_nothing(models, capsys, monkeypatch):
    from flatconv.errors import VerificationError

    def wrong(*args, **kwargs):
        raise VerificationError("it differs")

    monkeypatch.setattr(command.benchmark, "run", wrong)
    code, _, err = run(capsys, "models.py:net", *SIZES, "-o", "out")
    assert code == 4
    assert "it differs" in err
    assert not os.path.exists("out")
