"""A benchmark as table and figure: every number and every reason is there, and hostile names are text."""

import re
import xml.etree.ElementTree as ET

from flatconv.report import bench as report
from tests.bench import made

HOSTILE = "<script>alert(1)</script> $x_{2}$ --> \x1b[31m \u202e [red]"


def drawn(text):
    """What matplotlib wrote, which it keeps beside the paths as comments."""
    return " ".join(re.findall(r"<!--(.*?)-->", text, re.DOTALL))


def test_table():
    text = str(made.bench())
    for words in (
        "plain.decode on plain 1×3×1×9×10, cpu",
        "original / folded",
        "4.00 (3.50–4.50)",
        "500",
        "PyTorch eager",
        "torch.compile",
        "original 4 MB, folded 1 MB (25%), reference unknown",
        "folded 1 kB (33%)",
        "No time in torch.compile, folded: its output is not the original's: plain.",
        "No time in torch.compile, reference: RuntimeError: plain.",
        "No time in OpenVINO (f32): plain is not installed.",
        "the original in float64: its error is at most 2e-05",
        "torch.compile (50%). Measure again",
        "plain, 2 threads, float32, torch 2.13.0, 2026-01-01 10:00 UTC.",
    ):
        assert words in text, words
    assert "does not run in float64" in str(made.bench(compared="own type"))


def test_two_sides_have_one_ratio():
    text = str(made.bench(weights={"original": 2, "folded": 1}, peak_memory={}))
    assert "reference, ms" not in text
    assert "Peak memory" not in text


def test_a_gpu_is_named():
    gpu = {"GPU": "Some GPU", "CUDA": "13.0", "cuDNN": "91200", "torch": "2.11.0", "threads": "1"}
    assert "Some GPU, CUDA 13.0, cuDNN 91200, cuDNN's search on, TF32 off, 1 thread" in str(made.bench(environment=gpu))


def test_figure():
    text = report.figure(made.bench())
    assert ET.fromstring(text).tag.endswith("svg")
    assert text == report.figure(made.bench())
    labels = drawn(text)
    for words in ("PyTorch eager", "torch.compile", "OpenVINO (f32)", "folded", "original", "reference", "ms, log"):
        assert words in labels, words
    assert "–" in labels  # a side without a time


def test_a_figure_of_nothing():
    rows = made.bench().rows[2:]
    assert ET.fromstring(report.figure(made.bench(rows=rows))).tag.endswith("svg")


def test_hostile_names_are_text():
    found = made.bench(HOSTILE)
    text = str(found)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]" in text
    root = ET.fromstring(report.figure(found))
    assert not [e for e in root.iter() if isinstance(e.tag, str) and e.tag.endswith("script")]
