"""Every operator that is read, against ONNX Runtime."""

import itertools

import numpy as np
import pytest
import torch

from flatconv.onnx_in.operators import READERS
from tests.onnx_in.files_here import both, noise, write

ints = np.array
X = noise(2, 4, 3, 6, 5)
FLAT = noise(2, 4, 6, 5)


def case(op, *inputs, opset=20, outputs=1, **attributes):
    """An operator on arrays; (array,) is a constant of the file, None is left out."""
    return pytest.param(op, inputs, opset, outputs, attributes, id=f"{op}-{opset}-{sorted(attributes.items())}"[:90])


def conv(*shape, groups=1, **attributes):
    return case("Conv", X, (noise(6, 4 // groups, *shape, seed=1),), (noise(6, seed=2),), group=groups, **attributes)


def transposed(*shape, opset=20, bias=True, groups=1, **attributes):
    b = [(noise(3 * groups, seed=2),)] if bias else []
    return case("ConvTranspose", X, (noise(4, 3, *shape, seed=1),), *b, opset=opset, group=groups, **attributes)


CONVOLUTIONS = [
    conv(3, 3, 3),
    conv(3, 3, 3, pads=[1, 1, 1, 1, 1, 1]),
    conv(3, 3, 3, pads=[2, 0, 1, 0, 1, 1]),
    conv(3, 3, 3, pads=[1, 1, 1, 1, 1, 1], strides=[1, 2, 2], dilations=[1, 1, 2]),
    conv(3, 3, 3, auto_pad="SAME_UPPER", strides=[1, 2, 2]),
    conv(2, 3, 2, auto_pad="SAME_LOWER"),
    conv(3, 3, 3, auto_pad="VALID"),
    conv(1, 2, 3, groups=2),
    case("Conv", FLAT, (noise(3, 4, 3, 3),), pads=[1, 1, 1, 1]),
    case("Conv", noise(2, 4, 9), (noise(3, 4, 3),), strides=[2]),
    case("Conv", X, noise(6, 4, 3, 3, 3), kernel_shape=[3, 3, 3]),
    transposed(3, 3, 3),
    transposed(3, 2, 2, strides=[1, 2, 2], pads=[1, 0, 0, 1, 0, 0]),
    transposed(3, 3, 3, strides=[1, 2, 2], pads=[1, 1, 1, 1, 1, 1], output_padding=[0, 1, 1]),
    transposed(3, 3, 3, strides=[2, 2, 2], pads=[0, 1, 1, 1, 0, 2]),
    transposed(3, 3, 3, strides=[2, 2, 2], pads=[0, 1, 1, 1, 0, 2], bias=False),
    transposed(3, 3, 3, strides=[1, 2, 2], auto_pad="SAME_UPPER"),
    transposed(3, 3, 3, strides=[1, 2, 2], auto_pad="SAME_LOWER"),
    transposed(3, 3, 3, groups=2, dilations=[1, 2, 1]),
    transposed(2, 2, 2, strides=[3, 3, 3], output_padding=[1, 2, 0]),
]

POOLS = [
    case("MaxPool", X, kernel_shape=[2, 2, 2]),
    case("MaxPool", X, kernel_shape=[1, 3, 3], strides=[1, 2, 2], pads=[0, 1, 1, 0, 1, 1]),
    case("MaxPool", X, kernel_shape=[1, 3, 3], strides=[1, 2, 2], pads=[0, 0, 1, 0, 1, 0]),
    case("MaxPool", X, kernel_shape=[1, 2, 2], strides=[1, 2, 2], ceil_mode=1),
    case("MaxPool", X, kernel_shape=[1, 2, 2], dilations=[1, 2, 2]),
    case("MaxPool", X, kernel_shape=[3, 3, 3], auto_pad="SAME_UPPER", strides=[2, 2, 2]),
    case("AveragePool", X, kernel_shape=[2, 2, 2]),
    case("AveragePool", X, kernel_shape=[1, 3, 3], pads=[0, 1, 1, 0, 1, 1]),
    case("AveragePool", X, kernel_shape=[1, 3, 3], pads=[0, 1, 1, 0, 1, 1], count_include_pad=1),
    case("AveragePool", X, kernel_shape=[1, 3, 3], pads=[0, 0, 1, 0, 1, 0]),
    case("AveragePool", X, kernel_shape=[1, 3, 3], pads=[0, 0, 1, 0, 1, 0], count_include_pad=1),
    case("AveragePool", X, kernel_shape=[1, 2, 2], strides=[1, 2, 2], auto_pad="SAME_UPPER"),
    case("GlobalAveragePool", X),
    case("GlobalMaxPool", X),
]

FOUR = tuple((np.abs(noise(4, seed=s)),) for s in range(4))
NORMS = [
    case("BatchNormalization", X, *FOUR, epsilon=1e-3),
    case("BatchNormalization", X, *FOUR, opset=8),
    case("InstanceNormalization", X, *FOUR[:2]),
    case("LayerNormalization", X, (noise(5),), (noise(5, seed=1),)),
    case("LayerNormalization", X, (noise(6, 5),), axis=-2, epsilon=1e-2),
    case("LayerNormalization", X, (noise(1, 5),), (noise(5, seed=1),), axis=-2),
    case("GroupNormalization", X, *FOUR[:2], opset=21, num_groups=2),
]

PRODUCTS = [
    case("MatMul", noise(2, 3, 4), (noise(4, 5),)),
    case("Gemm", noise(3, 4), (noise(4, 5),), (noise(5),)),
    case("Gemm", noise(4, 3), (noise(5, 4),), (noise(3, 1),), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", noise(3, 4), (noise(4, 5),)),
    case("Einsum", noise(2, 3, 4), noise(2, 5, 4), equation="bik,bjk->bij"),
]

ONE = ["Abs", "Atan", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "IsNaN", "Mish", "Neg", "Reciprocal",
       "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tan", "Tanh", "Cosh", "Sinh", "Asinh"]  # fmt: skip
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
POSITIVE = np.abs(X) + 0.1
POINTWISE = [
    *(case(op, X) for op in ONE),
    case("Round", HALVES),
    *(case(op, POSITIVE) for op in ("Log", "Sqrt")),
    case("Acosh", POSITIVE + 1),
    *(case(op, np.tanh(X)) for op in ("Acos", "Asin", "Atanh")),
    *(case(op, X, (noise(4, 1, 1, 1),)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")),
    *(case(op, X, noise(4, 1, 1, 1)) for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")),
    *(case(op, X > 0, X > 1) for op in ("And", "Or", "Xor")),
    case("Not", X > 0),
    case("Max", X, FLAT[:, :, None, :, :], noise(5)),
    case("Div", ints([7, -7, 7, -7]), ints([2, 2, -2, -2])),
    case("Div", ints([7, -7, 7, -7]), (ints([2, 2, -2, -2]),)),
    case("Mod", ints([7, -7, 7, -7]), ints([3, 3, -3, -3])),
    case("Mod", X, (np.float32(0.7),), fmod=1),
    case("Pow", POSITIVE, (np.float32(0.5),)),
    case("Pow", X, (np.float32(3.0),)),
    case("Pow", X, (ints(2),)),
    case("Where", X > 0, X, (np.float32(1.0),)),
    case("Clip", X, (np.float32(-0.5),), (np.float32(0.5),)),
    case("Clip", X, None, (np.float32(0.5),)),
    case("Clip", X, opset=10, min=-0.1, max=1.0),
    case("Cast", X, to=7),
    case("Cast", X, to=9),
    case("Cast", X > 0, to=1),
    case("CastLike", X > 0, (np.float32(1),)),
    case("Dropout", X),
    case("Dropout", X, opset=10, ratio=0.3),
    case("Gelu", X), case("Gelu", X, approximate="tanh"), case("Selu", X), case("Selu", X, alpha=1.1, gamma=0.9),
    case("PRelu", X, (noise(4, 1, 1, 1),)), case("HardSigmoid", X, alpha=0.3, beta=0.4), case("LeakyRelu", X, alpha=0.2),
    case("LeakyRelu", X), case("Elu", X, alpha=0.7), case("Celu", X, alpha=0.7), case("ThresholdedRelu", X, alpha=0.3),
]  # fmt: skip

REDUCTIONS = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
              "ReduceLogSumExp"]  # fmt: skip
REDUCED = [
    *(case(op, X, (ints([2, -1]),), keepdims=k) for op in REDUCTIONS for k in (0, 1)),
    case("ReduceLogSum", POSITIVE, (ints([2]),)),
    case("ReduceMean", X, opset=13, axes=[1, 3], keepdims=0),
    case("ReduceSum", X),
    case("ReduceSum", X, None, noop_with_empty_axes=1),
    case("ArgMax", X, axis=1), case("ArgMin", X, axis=-1, keepdims=0),
    case("Softmax", X, axis=1), case("Softmax", X), case("LogSoftmax", X, axis=2), case("Softmax", FLAT, opset=11),
    case("Softmax", FLAT, opset=11, axis=3), case("LogSoftmax", FLAT, opset=11, axis=2),
]  # fmt: skip

SHAPES = [
    case("Reshape", X, (ints([2, -1, 5]),)),
    case("Reshape", X, (ints([0, 0, -1]),)),
    case("Transpose", X, perm=[0, 2, 1, 4, 3]), case("Transpose", X),
    case("Squeeze", noise(2, 1, 3, 1), (ints([1, -1]),)), case("Squeeze", noise(2, 1, 3, 1)),
    case("Squeeze", noise(2, 1, 3, 1), opset=11, axes=[1]),
    case("Unsqueeze", FLAT, (ints([0, -1]),)), case("Unsqueeze", FLAT, opset=11, axes=[2]),
    case("Flatten", FLAT), case("Flatten", FLAT, axis=-1), case("Flatten", FLAT, axis=0),
    case("Expand", noise(4, 1, 1), (ints([2, 1, 3, 1]),)), case("Expand", noise(4, 1, 5), (ints([6, 1]),)),
    case("Tile", FLAT, (ints([1, 2, 1, 3]),)),
    case("Shape", X), case("Shape", X, start=1, end=-1), case("Size", X),
    case("ConstantOfShape", (ints([2, 3]),)),
    case("DepthToSpace", FLAT, blocksize=2), case("DepthToSpace", FLAT, blocksize=2, mode="CRD"),
    case("SpaceToDepth", noise(2, 3, 4, 6), blocksize=2),
    case("Range", (ints(1),), (ints(9),), (ints(3),)),
]  # fmt: skip

LOWEST = np.iinfo(np.int64).min
PICKS = [
    case("Slice", X, (ints([1, 0]),), (ints([3, -1]),), (ints([1, 3]),)),
    case("Slice", X, (ints([0]),), (ints([9**9]),), (ints([-2]),), (ints([2]),)),
    case("Slice", X, (ints([-1]),), (ints([LOWEST]),), (ints([3]),), (ints([-1]),)),
    case("Slice", X, (ints([-2]),), (ints([-6]),), (ints([3]),), (ints([-2]),)),
    case("Slice", X, (ints([99]),), (ints([0]),), (ints([3]),), (ints([-2]),)),
    case("Slice", X, opset=9, starts=[1, 2], ends=[2, 4], axes=[1, 3]),
    case("Gather", X, (ints(1),), axis=2), case("Gather", X, (ints(-1),), axis=2),
    case("Gather", X, (ints([1, 2, 3]),), axis=3), case("Gather", X, (ints([3, -1, 0]),), axis=3),
    case("Gather", X, ints([[0, -1], [2, 2]]), axis=3),
    case("GatherElements", FLAT, ints(np.zeros((2, 4, 6, 2), int) - 1), axis=-1),
    case("GatherND", FLAT, ints([[0, -1], [1, 2]])),
    case("Split", X, (ints([1, 3]),), outputs=2, axis=1), case("Split", X, outputs=2, axis=1, num_outputs=2),
    case("Split", FLAT, outputs=2, opset=11, axis=2, split=[2, 4]), case("Split", FLAT, outputs=3, opset=11, axis=2),
    case("Split", FLAT, outputs=3, axis=3, num_outputs=3),
    case("Trilu", FLAT), case("Trilu", FLAT, (ints(-1),), upper=0),
    case("CumSum", FLAT, (ints(2),)),
    case("Concat", FLAT, noise(2, 1, 6, 5), axis=1), case("Concat", FLAT, FLAT, axis=-1),
]  # fmt: skip

PADS = [
    case("Pad", X, (ints([0, 0, 2, 1, 0, 0, 0, 0, 0, 3]),)),
    case("Pad", X, (ints([0, 1, 0, 0, 0, 0, 0, 0, -1, 0]),), (np.float32(2.5),)),
    case("Pad", X, (ints([1, 2]),), None, (ints([3]),)),
    case("Pad", X, (ints([0, 0, 0, 1, 1, 0, 0, 0, 2, 0]),), mode="edge"),
    case("Pad", X, (ints([0, 0, 1, 2, 1, 0, 0, 2, 2, 1]),), mode="reflect"),
    case("Pad", X, (ints([0, 0, 0, 2, 1, 0, 0, 0, 2, 1]),), mode="wrap"),
    case("Pad", X, (ints([0, 2, 1, 1, 0, 0, 0, 2, 0, 0]),), mode="edge"),
    case("Pad", X, opset=10, pads=[0, 0, 0, 1, 1, 0, 0, 0, 2, 0], value=1.5),
]

NONE = (np.array([], np.float32),)


def resized(x, scales=None, sizes=None, opset=20, **attributes):
    given = [NONE, (np.array(scales, np.float32),)] if scales else [NONE, NONE, (ints(sizes),)]
    return case("Resize", x, *given, opset=opset, **attributes)


RESIZED = [
    *(resized(X, [1, 1, 1, 2, 2], mode="nearest", coordinate_transformation_mode=c, nearest_mode=n)
      for c, n in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"))),
    *(resized(FLAT, [1, 1, 1.5, 0.6], mode="nearest", coordinate_transformation_mode=c, nearest_mode=n)
      for c, n in itertools.product(("asymmetric", "half_pixel", "align_corners"),
                                    ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))),
    resized(FLAT, sizes=[2, 4, 12, 10], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resized(FLAT, sizes=[2, 4, 7, 3], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resized(FLAT, [1, 1, 2, 2], mode="linear"), resized(FLAT, [1, 1, 1.5, 0.5], mode="linear"),
    resized(FLAT, sizes=[2, 4, 9, 4], mode="linear"), resized(X, [1, 1, 2, 2, 2], mode="linear"),
    resized(FLAT, sizes=[2, 4, 9, 4], mode="linear", coordinate_transformation_mode="align_corners"),
    resized(FLAT, sizes=[2, 4, 9, 4], mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    resized(FLAT, [1, 1, 2, 2], mode="cubic"),
    resized(FLAT, [2, 2], mode="linear", axes=[2, 3]), resized(FLAT, sizes=[3, 9], mode="nearest", axes=[3, 2]),
    case("Resize", FLAT, (np.array([1, 1, 2, 3], np.float32),), opset=10, mode="nearest"),
    case("Upsample", FLAT, (np.array([1, 1, 2, 3], np.float32),), opset=9, mode="nearest"),
    case("Upsample", FLAT, opset=7, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest"),
]  # fmt: skip

ALL = [*CONVOLUTIONS, *POOLS, *NORMS, *PRODUCTS, *POINTWISE, *REDUCED, *SHAPES, *PICKS, *PADS, *RESIZED]


@pytest.mark.parametrize(("op", "inputs", "opset", "outputs", "attributes"), ALL)
def test_as_onnx_runtime(op, inputs, opset, outputs, attributes, tmp_path):
    names, given, constants = [], {}, {}
    for i, value in enumerate(inputs):
        names.append("" if value is None else f"v{i}")
        if isinstance(value, tuple):
            constants[f"v{i}"] = value[0]
        elif value is not None:
            given[f"v{i}"] = value
    if not given:  # a graph has inputs
        given = {"unused": X}
    results = [f"r{i}" for i in range(outputs)]
    shapes = {k: (v.shape, str(v.dtype)) for k, v in given.items()}
    path = write(tmp_path / "one.onnx", [(op, names, results, attributes)], shapes, results, constants, opset)
    made, wanted = both(path, *given.values())
    assert len(made) == outputs
    for a, b in zip(made, wanted, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_every_operator_is_tried():
    tried = {p.values[0] for p in ALL}
    newer = {"RMSNormalization", "Swish"}  # ONNX Runtime has them in operator sets that onnx's own checker comes after
    assert READERS.keys() - newer <= tried


@pytest.mark.parametrize(
    ("op", "attributes", "wanted"),
    [
        ("Swish", {"alpha": 1.5}, lambda x: x * torch.sigmoid(1.5 * x)),
        ("Swish", {}, torch.nn.functional.silu),
    ],
)
def test_operators_that_the_runtime_does_not_have_yet(op, attributes, wanted):
    from flatconv.onnx_in.step import Step

    x = torch.from_numpy(X)
    made = READERS[op](Step(op, "here", 24, attributes, ("x",), ("y",)), [x])
    torch.testing.assert_close(made, wanted(x))


def test_root_mean_square():
    from flatconv.onnx_in.step import Step

    x, scale = torch.from_numpy(X), torch.from_numpy(noise(5))
    made = READERS["RMSNormalization"](Step("RMSNormalization", "here", 23, {}, ("x", "s"), ("y",)), [x, scale])
    torch.testing.assert_close(made, x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale)
