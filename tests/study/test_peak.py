"""Memory: the peak of a call, in a process of its own."""

import dataclasses
from pathlib import Path

import pytest

from flatconv.study import peak

ORDER = peak.Order((16, 16), 128, 1, "2-D", "eager", (1,), 1)
OUTPUT = 16 * 128 * 128 * 4

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")


@linux
def test_the_output_is_in_it():
    (found,) = peak.peaks(ORDER)
    assert OUTPUT <= found < 50 * OUTPUT


def test_a_process_that_fails_tells_nothing():
    assert peak.peaks(dataclasses.replace(ORDER, size=-1)) is None
