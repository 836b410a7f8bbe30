"""The page of figures is written from results alone."""

import json

from trust import page

HEADER = {"date": "2026-01-02", "commit": "0123456789abcdef", "dirty": False, "torch": "9.9", "command": "python -m x"}


def side(count, failed):
    return {
        "count": count,
        "cases": {"failed": failed, "sites rewritten": 7, "refused": 1},
        "outputs": {"impulses": 5},
        "share of the rounding bound": 0.25,
        "calls": {"right": 3, "guarded": 2, "guarded, original fails": 4, "original fails in float64": 9},
        "rules": {"merge taps": 6},
        "kinds": {"conv3d": 8},
    }


def test_random_programs():
    found = HEADER | {"operators": side(1000, 2), "graphs": side(50, 0), "seeds": [10, 1010]}
    text = page.fuzz(found)
    assert "| drawn and folded | 1,000 | 50 |" in text
    assert "| **failed** | 2 | 0 |" in text
    assert "| later calls refused by a guard | 6 | 6 |" in text
    assert "| later calls not compared, the original fails in float64 | 9 | 9 |" in text
    assert "Seeds 10 to 1,009" in text
    assert "merge taps 12" in text
    assert "2026-01-02, commit 0123456789, torch 9.9" in text


def test_uncommitted_changes_are_told():
    found = HEADER | {"dirty": True, "operators": side(1, 0), "graphs": side(1, 0), "seeds": [0, 1]}
    assert "with uncommitted changes" in page.fuzz(found)


def test_mutants():
    totals = {
        "mutants": 3,
        "caught": 2,
        "survivors": ["a"],
        "by layer": {"traps": 2},
        "by this layer alone": {"traps": 1},
        "not by the product's own verification": ["b"],
    }
    text = page.mutants(HEADER | {"totals": totals})
    assert "**2 caught, 1 survived**" in text
    assert "| traps | 2 | 1 |" in text
    assert "`b`" in text


def test_the_committed_page_is_that_of_the_committed_results():
    text = (page.ROOT / "docs/trust.md").read_text(encoding="utf-8")
    fuzz = json.loads((page.RESULTS / "fuzz.json").read_text(encoding="utf-8"))
    assert page.fuzz(fuzz) in text
    recall = json.loads((page.RESULTS / "recall.json").read_text(encoding="utf-8"))
    assert page.recall(recall) in text
    assert page.inputs() in text
