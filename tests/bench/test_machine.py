"""The surroundings are recorded, and what is set for a measurement is put back."""

import torch

from flatconv.bench import machine


def test_environment():
    found = machine.environment()
    assert found["torch"] == torch.__version__
    assert found["threads"] == str(torch.get_num_threads())
    assert found["processor"]
    assert "GPU" not in found


def test_a_gpu_is_recorded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"name of {device}")
    with machine.set_up("cuda", None):
        found = machine.environment("cuda")
    assert found["GPU"] == "name of cuda"
    assert found["cuDNN search"] == "True"
    assert found["TF32"] == "False"
    assert found.keys() >= {"CUDA", "cuDNN"}


def test_threads_and_switches_are_put_back():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    held = torch.get_num_threads(), cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    with machine.set_up("cuda", held[0] + 1):
        assert (torch.get_num_threads(), cudnn.benchmark) == (held[0] + 1, True)
        assert not cudnn.allow_tf32
        assert not matmul.allow_tf32
    assert (torch.get_num_threads(), cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32) == held
    with machine.set_up("cpu", None):
        assert cudnn.benchmark == held[1]
