"""Sentences say what the numbers say."""

import dataclasses

import pytest

from flatconv.report import words
from tests.report import pages


def test_the_first_sentence_answers_the_question():
    text = words.lede(pages.audit([pages.site(groups=((2,),)), pages.site("b", groups=((0,), (1,), (2,)))]))
    assert text.startswith("Only 66.7 % of the multiply-adds in these 2 convolutions meet data.")
    assert text.endswith("is spent on zeros.")


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ([], "no 3-D convolution"),
        ([pages.site(groups=((0,), (1,), (2,)))], "there is nothing to leave out"),
        ([pages.site(groups=((0, 1, 2),))], "on multiplying the same slice again"),
        ([pages.site(groups=((0, 1),))], "on zeros and on multiplying the same slice again"),
        ([pages.site(groups=((0,), (1,), (2,)), other=1 / 3)], "on zeros"),
    ],
)
def test_causes(sites, said):
    assert said in words.lede(pages.audit(sites))


def test_equal_results_are_told_from_narrower_kernels():
    every = pages.site(groups=((0,), (1,), (2,)))
    again = dataclasses.replace(every, useful_macs=every.macs // 4)
    assert "equal results" in words.lede(pages.audit([again]))
    assert "computed once" in words.more(again)
    assert "other axes" in words.more(pages.site(groups=((1,),), other=1 / 3))
    assert words.more(pages.site(groups=((1,),))) == ""
    assert words.more(every) == ""


def test_an_empty_batch_has_nothing_to_count():
    empty = dataclasses.replace(pages.site(), macs=0, useful_macs=0)
    assert "no multiply-adds" in words.lede(pages.audit([empty]))


def test_taps():
    assert words.tap_list([2]) == "tap 2"
    assert words.tap_list([4, 0, 1, 2, 6, 7]) == "taps 0–2, 4, 6, 7"
    assert words.tap_list(range(0, 100, 2)).endswith("… (50 in all)")
    text = words.taps_sentence(pages.site(kernel=(5, 1, 1), groups=((1,), (2, 3))))
    assert text == "Tap 1 meets data; taps 2, 3 meet the same slice and can be added; taps 0, 4 meet only zeros."
    assert words.taps_sentence(pages.site(groups=((0,), (1,), (2,)))) == "Every tap meets data."


def test_what_a_fold_did():
    report = pages.folded()
    assert words.done(report).startswith("2 of 3 convolutions rewritten, with new weights of lower rank.")
    assert [(level, number) for level, number, _ in words.levels(report)] == [("exact", 1), ("bounded", 1)]
    assert "1.2e-16" in words.whole_model(report)
    unchecked = dataclasses.replace(report, evidence=dataclasses.replace(report.evidence, runs=()))
    assert "switched off" in words.whole_model(unchecked)


def test_sizes_that_were_left_free_come_last_among_refusals():
    rules = words.refusals(pages.folded())
    assert [why for _, why, _ in rules] == ["axis 2: 2 slices are all different", "axis 3: its size is free"]
    assert rules[0][2] == ["deep", "left"]
