"""Every engine computes what the network computes."""

import sys

import pytest
import torch

from flatconv.errors import MissingExtraError
from flatconv.study.engines import prepare
from flatconv.study.layers import Chain, direct, images

CHAIN = Chain((2, 3), 5)


def test_eager():
    model, given = direct(CHAIN, 3), images(CHAIN, 2)
    assert torch.equal(prepare("eager", model, given)(), model(given))


@pytest.mark.parametrize("keeps", [True, False])
def test_onnxruntime(keeps):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, given = direct(CHAIN, 3), images(CHAIN, 2)
    with torch.inference_mode():
        torch.testing.assert_close(prepare("onnxruntime", model, given, keeps)(), model(given))


@pytest.mark.parametrize("package", ["onnxruntime", "onnx", "onnxscript"])
def test_what_is_missing_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"'{package}'.*flatconv\\[study\\]"):
        prepare("onnxruntime", direct(CHAIN, 3), images(CHAIN, 1))
