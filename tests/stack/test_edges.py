"""What stands beyond the ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatconv.errors import InputError
from flatconv.stack.edges import check_edge, resolve


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40), st.sampled_from(["replicate", "reflect", "pad"]))
def test_as_numpy_pads(frames, before, after, edge):
    mode = {"replicate": "edge", "reflect": "reflect", "pad": "constant"}[edge]
    known = np.pad(np.arange(frames) + 1, (before, after), mode=mode)
    found = [resolve(p, frames, edge) for p in range(-before, frames + after)]
    assert [0 if f is None else f + 1 for f in found] == known.tolist()


def test_unknown_words():
    with pytest.raises(InputError, match="edge=wrap is unknown here: it may be pad, drop, replicate, reflect, error"):
        check_edge("wrap")
