"""The examples of whole models run, and what they print is what they say."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def printed(capsys):
    def run(name, *packages):
        for package in packages:
            pytest.importorskip(package)
        runpy.run_path(str(EXAMPLES / f"use_{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def differences(text):
    found = [float(v) for v in re.findall(r"largest difference (\S+)", text)]
    assert found
    return found


def test_image_vae(printed):
    text = printed("image_vae", "diffusers")
    assert max(differences(text)) < 1e-4
    assert re.search(r"decode +z 1×4×1×16×24 .* 1 +1\n", text)
    assert "a plain AutoencoderKLWan again" in text


def test_vision_tower(printed):
    text = printed("vision_tower", "transformers")
    assert max(differences(text)) < 1e-3
    assert "patch_embed.forward" in text


def test_slices(printed):
    text = printed("slices", "monai")
    assert max(differences(text)) < 1e-4
    # Nine windows are two batches of four and one of one, and all take the fold.
    assert re.search(r"forward +x 4×1×1×96×96 .* 3 +0\n", text)


def test_keras(printed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    text = printed("keras", "keras")
    assert max(differences(text)) < 1e-4
    assert re.search(r"layers\.conv3d\w*: conv3d becomes conv2d, of kernel \(3, 3, 3\) the depths \(1,\)", text)


def test_runtime(printed):
    text = printed("runtime", "onnx", "onnxscript", "onnxruntime")
    assert "largest rank: 4" in text
    assert max(differences(text)) < 1e-3
