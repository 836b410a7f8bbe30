"""C8: numbers to a verdict, and the quick form runs."""

import json

import pytest

from flatconv.findings import Estimate
from flatconv.study.claims import c8_bands as c8
from flatconv.study.networks import Cost

THERE, ABSENT, HARMFUL, OPEN = (0.01, 0.1), (-0.01, 0.01), (-0.2, -0.1), (-0.01, 0.1)


def made(*intervals):
    return [Estimate("made up: test", (low + high) / 2, low, high) for low, high in intervals]


@pytest.mark.parametrize(
    ("order", "gain", "mixed", "verdict"),
    [
        ((THERE, THERE), (THERE, THERE), (THERE, THERE), "confirmed"),
        ((ABSENT, HARMFUL), (ABSENT, HARMFUL), (HARMFUL, ABSENT), "refuted"),
        ((THERE, THERE), (ABSENT, HARMFUL), (THERE, THERE), "corrected"),
        ((THERE, THERE), (THERE, THERE), (THERE, ABSENT), "corrected"),
        ((THERE, OPEN), (ABSENT, OPEN), (OPEN, OPEN), "corrected"),
        ((THERE,), (OPEN,), (THERE,), "undecided"),
        ((OPEN,), (HARMFUL,), (ABSENT,), "undecided"),
        ((), (), (), "undecided"),
    ],
)
def test_verdict(order, gain, mixed, verdict):
    assert c8.judge(made(*order), made(*gain), made(*mixed), 0.02) == verdict


def scores(**accuracy):
    named = {"depth": c8.DEPTH, "shuffled": c8.SHUFFLED, "channels": c8.CHANNELS, "alone": c8.ALONE}
    found = {named[name]: values for name, values in accuracy.items()}
    return c8.Scores("made up", found, dict.fromkeys(c8.ARMS, Cost(10, 100)), 1 / 3)


def test_differences_are_paired_by_seed():
    # The seeds differ much, the arms by the same amount in each: paired, that is no accident.
    base = (0.5, 0.7, 0.9, 0.6)
    found = c8.result(
        c8.QUICK,
        [
            scores(
                depth=tuple(b + 0.05 for b in base),
                shuffled=base,
                channels=tuple(b + d for b, d in zip(base, (0.05, 0.051, 0.049, 0.05), strict=True)),
                alone=base,
            )
        ],
    )
    order, gain, _ = found.estimates
    assert order.value == pytest.approx(0.05)
    assert order.low > 0
    assert order.level == pytest.approx(1 - 0.05 / 3)
    assert gain.high < 0.02
    assert found.verdict == "corrected"


def test_quick():
    found = c8.run(c8.QUICK, lambda words: None)
    tests = 4  # two kinds of bands, ranges seen and unseen
    assert len(found.estimates) == 3 * tests
    accuracies, costs = found.tables
    assert len(accuracies.rows) == tests
    assert len(costs.rows) == tests * len(c8.ARMS)
    for row in accuracies.rows:
        assert all(0 <= e.value <= 1 for e in row[1:])
    json.dumps(found.to_dict())


def test_all_seeds_learn_alike_twice():
    words = []
    small = c8.Config(
        patches=c8.QUICK.patches[1:], width=1, train=24, test=24, training=c8.QUICK.training, margin=0.02, seeds=(0, 1)
    )
    assert c8.run(small, words.append) == c8.run(small, words.append)


def test_the_measurement_has_at_least_five_seeds_on_both_halves():
    assert len(c8.FULL.seeds) >= 5
    assert {s % 2 for s in c8.FULL.seeds} == {0, 1}
    assert {p.kind for p in c8.FULL.patches} == {"scale", "exposure"}
