"""Random networks of random operators over free sizes, as read and as folded, against ONNX Runtime."""

import random

import numpy as np
import pytest
import torch
from onnx import numpy_helper

import flatconv
from flatconv import onnx_in, runtimes
from flatconv.errors import GuardError
from tests.onnx_in.files_here import noise, write

READ, FOLDED = range(120), range(1000, 1016)
I = np.array  # noqa: E741


class Network:
    """A chain of blocks on a volume whose batch, height and width are free."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.opset = self.random.choice([9, 11, 12, 13, 16, 18, 19, 20, 22, 23])
        self.channels, self.depth, self.nodes, self.constants, self.names = 4, self.random.choice([1, 1, 3]), [], {}, 0
        self.inputs = {"x": ("n", 4, self.depth, "h", "w")}

    def one(self, *values):
        return self.random.choice(values)

    def add(self, op, *inputs, outputs=1, **attributes):
        given = []
        for value in inputs:
            if isinstance(value, np.ndarray | np.generic):
                name = f"c{len(self.constants)}"
                self.constants[name] = value
                value = name
            given.append(value)
        made = [f"v{self.names + i}" for i in range(outputs)]
        self.names += outputs
        self.nodes.append((op, given, made, attributes))
        return made[0] if outputs == 1 else made

    def listed(self, op, value, since, name, numbers):
        """An operator whose numbers were an attribute before a version, and are an input since."""
        return self.add(op, value, I(numbers)) if self.opset >= since else self.add(op, value, **{name: list(numbers)})

    def slice(self, value, start, end, axis, step=1):
        if self.opset < 10:
            return self.add("Slice", value, starts=[start], ends=[end], axes=[axis])
        kind = self.one(np.int32, np.int64)
        return self.add("Slice", value, *(np.array([n], kind) for n in (start, end, axis, step)))

    def sizes(self, value):
        """Number of samples, then of channels and slices, then height and width."""
        shape = self.add("Shape", value)
        if self.one(True, False):
            return self.slice(shape, 0, 1, 0), self.slice(shape, 1, -2, 0), self.slice(shape, -2, 2**31 - 1, 0)
        one = [self.add("Gather", shape, I(i), axis=0) for i in (0, self.one(3, -2), self.one(4, -1))]
        one = [self.listed("Unsqueeze", v, 13, "axes", [0]) for v in one]
        return one[0], self.add("Gather", shape, I([1, -3])), self.add("Concat", *one[1:], axis=0)

    # Blocks: a volume in, a volume out.

    def pointwise(self, v):
        op = self.one("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Softplus", "Elu", "LeakyRelu", "Erf", "Selu")
        return self.add(op, v)

    def two(self, v):
        shape = self.one((1,), (self.channels, 1, 1, 1), (1, 1, self.depth, 1, 1), ())
        op = self.one("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow")
        if op == "Pow":
            return self.add(op, v, np.array(self.one(2, 3), np.float32).reshape((1,) * self.one(0, 1, 5)))
        return self.add(op, v, np.abs(noise(*shape, seed=self.names)) + np.float32(0.5))

    def clip(self, v):
        if self.opset < 11:
            return self.add("Clip", v, min=-0.5, max=1.0)
        return self.add("Clip", v, self.one("", np.float32(-0.5)), self.one("", np.float32(1)))

    def conv(self, v):
        out, kernel = self.one(2, 4, 6), [self.one(1, 3) for _ in range(3)]
        groups = self.one(1, 2) if self.channels % 2 == 0 else 1
        more = {"pads": [k // 2 for k in kernel] * 2} if self.one(1, 1, 0) else {"auto_pad": "SAME_UPPER"}
        weight = noise(out, self.channels // groups, *kernel, seed=self.names) / 3
        bias = [noise(out)] if self.one(True, False) else []
        self.channels = out
        return self.add("Conv", v, weight, *bias, group=groups, strides=[1, self.one(1, 1, 2), 1], **more)

    def transposed(self, v):
        out, weight = self.one(2, 4), noise(self.channels, 4, 1, 2, 2, seed=self.names)
        self.channels = out
        return self.add(
            "ConvTranspose", v, weight[:, :out].copy(), strides=[1, 2, 2], output_padding=[0, self.one(0, 1), 0]
        )

    def pool(self, v):
        op, size = self.one("MaxPool", "AveragePool"), self.one(2, 3)
        pads = self.one([0] * 6, [0, 1, 1, 0, 1, 1], [0, 0, 1, 0, 1, 0])
        more = {"count_include_pad": 1} if op == "AveragePool" and self.one(True, False) else {}
        strides = [1, 1, self.one(1, 2)]
        return self.add(op, v, kernel_shape=[1, size, size], strides=strides, pads=pads, **more)

    def norm(self, v):
        numbers = [np.abs(noise(self.channels, seed=s)) + np.float32(0.1) for s in range(4)]
        if self.one(True, False):
            return self.add("InstanceNormalization", v, *numbers[:2])
        return self.add("BatchNormalization", v, *numbers)

    def reduced(self, v):
        op = self.one("ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2", "ReduceMin", "ReduceSumSquare")
        axes = self.one([2, 3, 4], [-1], [1], [-2, -1], [0, 2])
        return self.add("Sub", v, self.listed(op, v, 13 if op == "ReduceSum" else 18, "axes", axes))

    def softmax(self, v):
        return self.add(self.one("Softmax", "LogSoftmax"), v, axis=self.one(1, -1, 3, 4))

    def joined(self, v):
        self.channels *= 2
        return self.add("Concat", v, self.add("Relu", v), axis=self.one(1, -4))

    def split(self, v):
        parts = [self.add("Identity", v)]
        if self.channels % 2 == 0:
            more = {"num_outputs": 2} if self.opset >= 18 else {}
            parts = self.add("Split", v, outputs=2, axis=self.one(1, -4), **more)
            self.channels //= 2
        return self.add("Sum", *parts)

    def turned(self, v):
        order = self.random.sample(range(5), 5)
        turned = self.add("Tanh", self.add("Transpose", v, perm=order))
        return self.add("Transpose", turned, perm=[order.index(i) for i in range(5)])

    def flat(self, v):
        shape = self.add("Shape", v)
        n, middle, image = self.sizes(v)
        product = self.add("ReduceProd", image, keepdims=1)
        wanted = self.add("Concat", n, self.one(I([self.channels, -1]), middle), product, axis=0)
        flat = self.add("Sigmoid", self.add("Reshape", v, self.one(wanted, I([0, self.channels, -1]), I([-1]))))
        return self.add("Reshape", flat, shape)

    def squeezed(self, v):
        if self.depth != 1:
            return v
        flat = self.add("Sigmoid", self.listed("Squeeze", v, 13, "axes", [self.one(2, -3)]))
        return self.listed("Unsqueeze", flat, 13, "axes", [2 if self.opset < 11 else self.one(2, -3)])

    def resized(self, v):
        if self.opset < 11:
            return self.add("Upsample", v, I([1, 1, 1, 2, self.one(1, 2)], np.float32), mode="nearest")
        n, middle, image = self.sizes(v)
        if self.one(True, False):
            big = self.add("Mul", image, I([2]))
        else:
            factor = self.add("Mul", self.add("Cast", image, to=1), I([2, 2], np.float32))
            big = self.add("Cast", self.add("Floor", factor), to=self.one(6, 7))
            big = self.add("Cast", big, to=7)
        wanted = self.add("Concat", n, middle, big, axis=0)
        how = self.one(
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
            {"coordinate_transformation_mode": "align_corners", "mode": "linear"},
            {"coordinate_transformation_mode": "pytorch_half_pixel", "mode": "linear"},
        )
        empty = [np.zeros(0, np.float32)] * 2 if self.opset < 13 else ["", ""]
        return self.add("Resize", v, *empty, wanted, **how)

    def padded(self, v):
        """Zeros behind, so that height and width are multiples of four."""
        if self.opset < 11:
            return self.add("Pad", v, pads=[0, 0, 0, 1, 0, 0, 0, 0, 0, 2], mode=self.one("constant", "edge"))
        _, _, image = self.sizes(v)
        full = self.add("Mul", self.add("Div", self.add("Add", image, I(3)), I([4])), I([4]))
        more = self.add("Sub", full, image)
        return self.add("Pad", v, self.add("Concat", I([0] * 8), more, axis=0), self.one("", np.float32(0.5)))

    def cropped(self, v):
        v = self.slice(v, 1, 2**31 - 1, 3)
        if self.opset >= 10 and self.one(True, False):
            v = self.slice(v, -1, -(2**31) + 1, -1, -1)
        if self.opset >= 10 and self.one(True, False):
            half = self.add("Div", self.add("Add", self.sizes(v)[2], I([1, 1])), I([2, 2]))
            v = self.add("Slice", v, I([0, 0]), half, I([3, -1]))
        return v

    def expanded(self, v):
        """What torch writes for expand: -1 keeps a size."""
        shape = self.add("Shape", v)
        rank = self.add("Shape", shape)
        ones = self.add("ConstantOfShape", rank, value=numpy_helper.from_array(I([1])))
        asked = self.add("Concat", I([-1, -1, -1]), self.slice(shape, 3, 5, 0), axis=0)
        keep = self.add("Equal", asked, self.add("Mul", ones, I(-1)))
        wanted = self.add("Where", keep, ones, asked)
        return self.add("Mul", v, self.add("Expand", noise(1, self.channels, 1, 1, 1), wanted))

    def masked(self, v):
        filled = self.add("ConstantOfShape", self.add("Shape", v))
        return self.add("Where", self.add("Greater", v, filled), v, self.one(filled, np.float32(0)))

    def scaled(self, v):
        """Divided by the number of elements, a size as data."""
        count = self.add("Cast", self.add("ReduceProd", self.sizes(v)[1], keepdims=0), to=self.one(1, 6))
        return self.add("Div", v, self.add("Cast", count, to=1))


BLOCKS = [v for k, v in vars(Network).items() if k not in ("one", "add", "listed", "slice", "sizes") and k[0] != "_"]


def network(tmp_path, seed):
    made = Network(seed)
    value = "x"
    for _ in range(made.random.randint(2, 7)):
        value = made.random.choice(BLOCKS)(made, value)
    made.add("Identity", value)
    return made, write(
        tmp_path / "net.onnx", made.nodes, made.inputs, [made.nodes[-1][2][0]], made.constants, made.opset
    )


def volumes(made):
    noise = torch.Generator().manual_seed(1)
    for n, h, w in ((2, 12, 16), (1, 9, 14), (3, 17, 11)):
        yield torch.randn(n, 4, made.depth, h, w, generator=noise)


def same(result, wanted):
    assert result.dtype == wanted.dtype
    torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-4 * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("seeds", [READ[i::4] for i in range(4)], ids=str)
def test_as_read(tmp_path, seeds):
    for seed in seeds:
        made, path = network(tmp_path, seed)
        model = onnx_in.load(path)
        for x in volumes(made):
            (wanted,) = runtimes.onnxruntime(path, [x])()
            with torch.no_grad():
                same(model(x), wanted)


@pytest.mark.parametrize("seed", FOLDED)
def test_as_folded(tmp_path, seed):
    made, path = network(tmp_path, seed)
    example, *others = volumes(made)
    flat = flatconv.fold(onnx_in.load(path), (example,), tune=False)
    for x in (example, *others):
        (wanted,) = runtimes.onnxruntime(path, [x])()
        try:
            result = flat(x)
        except GuardError:
            assert x is not example
            continue
        same(result, wanted)
