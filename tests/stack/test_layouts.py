"""Named layouts: where each axis goes, there and back, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from flatconv.errors import InputError
from flatconv.stack.layouts import (
    LAYOUTS,
    check_layout,
    from_ncdhw,
    kernel_from_tensorflow,
    kernel_to_tensorflow,
    to_ncdhw,
)

SIZES = {"N": 2, "C": 3, "D": 4, "T": 4, "H": 5, "W": 6}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_axis_goes_to_its_place_and_back(layout):
    shape = [SIZES[a] for a in layout]
    x = torch.randn(shape)
    y = to_ncdhw(x, layout)
    assert tuple(y.shape) == tuple(SIZES[a] if a in layout.replace("T", "D") else 1 for a in "NCDHW")
    # One element is followed by its coordinates: no two axes are exchanged.
    at = [s - 1 for s in shape]
    there = [SIZES[a] - 1 if a in layout.replace("T", "D") else 0 for a in "NCDHW"]
    assert y[tuple(there)] == x[tuple(at)]
    assert torch.equal(from_ncdhw(y, layout), x)


@given(st.sampled_from(LAYOUTS), st.data())
def test_conversion_is_a_view_that_can_be_undone(layout, data):
    x = torch.randn([data.draw(st.integers(0, 3)) for _ in layout])
    y = to_ncdhw(x, layout)
    assert y.numel() == x.numel()
    assert y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert torch.equal(from_ncdhw(y, layout), x)


def test_what_is_refused():
    x = torch.zeros(2, 3, 4)
    with pytest.raises(InputError, match="2×3×4 needs a layout, which is not guessed: say which of DHW, THW, CHW, HWC"):
        check_layout(None, x.shape)
    with pytest.raises(InputError, match="'WHD' is unknown: it may be NCDHW"):
        to_ncdhw(x, "WHD")
    with pytest.raises(InputError, match="has 3 axes, and the layout NCDHW names 5"):
        to_ncdhw(x, "NCDHW")
    with pytest.raises(InputError, match="axis D has size 4"):
        from_ncdhw(torch.zeros(1, 3, 4, 5, 6), "NCHW")


def test_kernels_of_tensorflow():
    # A kernel with a single one, by TensorFlow's own definition: out[d, h, w, o] = sum x[d+i, h+j, w+k, c] * K[i, j, k, c, o].
    k = torch.zeros(2, 3, 4, 5, 6)
    k[1, 2, 0, 3, 4] = 1
    x = torch.randn(1, 5, 4, 5, 6)
    y = F.conv3d(x, kernel_from_tensorflow(k))
    assert torch.equal(y[0, 4], x[0, 3, 1:4, 2:5, 0:3])
    assert not y[0, :4].any()
    assert torch.equal(kernel_to_tensorflow(kernel_from_tensorflow(k)), k)


def test_transposed_kernels_of_tensorflow():
    # Conv3DTranspose has (D, H, W, out, in): out[d+i, h+j, w+k, o] += x[d, h, w, c] * K[i, j, k, o, c].
    k = torch.zeros(2, 3, 4, 6, 5)
    k[1, 2, 0, 4, 3] = 1
    x = torch.randn(1, 5, 2, 2, 2)
    y = F.conv_transpose3d(x, kernel_from_tensorflow(k, transposed=True))
    assert torch.equal(y[0, 4, 1:3, 2:4, 0:2], x[0, 3])
    assert torch.equal(kernel_to_tensorflow(kernel_from_tensorflow(k, transposed=True), transposed=True), k)
    with pytest.raises(InputError, match=r"\(D, H, W, out, in\); this one is \(3, 3\)"):
        kernel_from_tensorflow(torch.zeros(3, 3), transposed=True)


def test_keras_agrees(monkeypatch):
    """The same kernel in Keras and in torch gives the same numbers."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    x = torch.randn(1, 5, 6, 7, 2)
    for layer, call, flip in (
        (keras.layers.Conv3D(3, (2, 3, 4)), F.conv3d, False),
        (keras.layers.Conv3DTranspose(3, (2, 3, 4)), F.conv_transpose3d, True),
    ):
        there = torch.as_tensor(layer(x).detach())
        kernel = kernel_from_tensorflow(torch.as_tensor(layer.kernel.value.detach()), transposed=flip)
        assert torch.allclose(from_ncdhw(call(to_ncdhw(x, "NDHWC"), kernel), "NDHWC"), there, atol=1e-5)
