"""ONNX's own tests of single operators: each result is right, or the file is refused for a reason that is listed here."""

import warnings
from fnmatch import fnmatch
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from flatconv import onnx_in, runtimes
from flatconv.errors import RefusedError
from flatconv.onnx_in.operators import READERS
from flatconv.onnx_in.reader import NEWEST

PASSED = {"as data": 367, "as constants": 495}
"""Of 579: with all inputs given, and with the second and further ones as constants, as sizes and axes are in real files."""
COUNTED = "1.23."
"""The version of onnx that has so many."""
KINDS = ["float16", "float32", "float64", "bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64"]
REFUSED = {
    "arg*_select_last_index": "select_last_index=1",
    "averagepool_*dilations*": "dilated average pooling",
    "batchnorm_*_training_mode": "training_mode=1",
    "convtranspose_output_shape": "larger than what the kernel gives",
    "cumsum_*exclusive": "exclusive=1",
    "cumsum_1d_reverse": "reverse=1",
    "*dropout*_mask*": "only the first",
    "maxpool_with_argmax_*": "only the first",
    "layer_normalization_*": "only the first",
    "training_dropout*": "it is in training mode",
    "gathernd_example_int32_batch_dim1": "batch_dims=1",
    "maxpool_2d_uint8": "floating point",
    "not_?d": "of ONNX operator set 1",
    "reduce_m??_empty_set*": "non-zero size",
    "resize_*_exclude_outside": "exclude_outside=1",
    "resize_*_cubic_asymmetric": "is not torch's",
    "resize_*tf_crop_and_resize*": "is not torch's",
    "resize_*_half_pixel_symmetric": "is not torch's",
    "resize_downsample_sizes_linear_pytorch_half_pixel": "to a size of one",
    "resize_*_antialias": "antialias=1",
    "resize_*_not_larger": "keep_aspect_ratio_policy",
    "resize_*_not_smaller": "keep_aspect_ratio_policy",
}
"""Why, by names of tests."""
FROM_DATA = "is computed from data, and must be known"
OTHERWISE = {
    "resize_downsample_scales_linear_align_corners",
    "resize_downsample_scales_cubic_align_corners",
}
"""Of which ONNX Runtime computes something else than the specification says; they are read as it does."""


@cache
def cases():
    """Those of operators, types and versions that are read, without the ones that write another operator in terms of these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    return [c for c in found if c.model is not None and "_expanded" not in c.name and _read(c)]


def _read(case):
    versions = [o.version for o in case.model.opset_import if o.domain == ""]
    arrays = [a for part in case.data_sets[0] for a in part]
    return (
        {n.op_type for n in case.model.graph.node} <= {*READERS, "Constant"}
        and all(v <= NEWEST for v in versions)
        and all(isinstance(a, np.ndarray | np.generic) and a.dtype.name in KINDS for a in arrays)
    )


def held(case):
    """The file and its inputs, all but the first of which are constants of it."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = max(model.ir_version, 8)
    others = list(model.graph.input)[1:]
    del model.graph.input[1:]
    arrays = case.data_sets[0][0]
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), v.name) for v, a in zip(others, arrays[1:], strict=True)
    )
    return model, arrays[:1]


def tensor(array):
    array = np.array(array)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def outcome(case, model, arrays, path):
    """Whether it is right, or why it was refused."""
    onnx.save(model, path)
    tensors = [tensor(a) for a in arrays]
    try:
        with torch.no_grad():
            made = onnx_in.load(path)(*tensors)
    except RefusedError as e:
        return str(e)
    wanted = [tensor(a) for a in case.data_sets[0][1]]
    if case.name.removeprefix("test_") in OTHERWISE:
        wanted = runtimes.onnxruntime(path, tensors)()
    for a, b in zip(made if isinstance(made, tuple) else (made,), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=case.rtol, atol=max(case.atol, 1e-6), equal_nan=True, msg=case.name)
    return None


@pytest.mark.parametrize("form", PASSED)
def test_all(tmp_path, form):
    passed, unlisted, met = 0, {}, set()
    for case in cases():
        given = case.model, case.data_sets[0][0]
        why = outcome(case, *(held(case) if form == "as constants" and given[1] else given), tmp_path / "case.onnx")
        passed += why is None
        if why is None or (form == "as data" and FROM_DATA in why):
            continue
        said = {p for p, word in REFUSED.items() if fnmatch(case.name.removeprefix("test_"), p) and word in why}
        met |= said
        if not said:
            unlisted[case.name] = why
    assert unlisted == {}
    if onnx.__version__.startswith(COUNTED):
        assert passed == PASSED[form]
        assert form == "as data" or met == set(REFUSED)
