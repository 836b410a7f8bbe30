"""Models and calls that flatconv must refuse.

A row's ``given`` is a function without arguments that returns (model, args, options of fold).
"""

# A row that is a line reads better than one that is broken up.
# ruff: noqa: E501

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import nn
from torch.nn import functional as F

import flatconv
from flatconv.errors import InputError, RefusedError, VerificationError
from tests.bad.table import bad

SIZE = (1, 3, 1, 8, 9)


def x(*size: int, **options: Any) -> torch.Tensor:
    """Numbers of this size, or of the usual one; the same ones whenever they are made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return torch.randn(size or SIZE, **options)


def conv(*of: Any, **options: Any) -> nn.Conv3d:
    return nn.Conv3d(*(of or (3, 4, 3)), **({"padding": 1} | options))


class Net(nn.Module):
    """A convolution, then a function of the result and the module."""

    def __init__(self, then: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.conv = conv()
        self._then = then
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> Any:
        return self._then(self.conv(x), self)


def net(then: Callable[..., Any], **held: Any) -> Callable[[], Any]:
    """A row's model in eval mode with the usual example."""
    return lambda: (Net(then, **held).eval(), (x(),), {})


def call(*args: Any, **options: Any) -> Callable[[], Any]:
    """The plain model, called in some way."""
    return lambda: (nn.Sequential(conv()).eval(), args, options)


def given(make: Callable[[], Any], *args: Any, **options: Any) -> Callable[[], Any]:
    """A model made by a function."""
    return lambda: (make(), args or (x(),), options)


def raising(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def then(y: Any, m: Any) -> Any:
        raise error()

    return net(then)


class OwnError(Exception):
    pass


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


# ---- calls


class Doubles(torch.Tensor):
    """A tensor that does its own thing with a convolution."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_function__(func, types, args, kwargs or {})
        return made * 2 if func in (F.conv3d, torch.conv3d) else made


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        return self.conv(x) * scale


class Methods(nn.Module):
    """Attributes that are no methods."""

    constant = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    @property
    def raising(self) -> Any:
        raise RuntimeError("not now")

    @property
    def number(self) -> int:
        return 4

    def nothing(self) -> torch.Tensor:
        return self.conv(torch.zeros(SIZE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def methods(name: Any, *args: Any) -> Callable[[], Any]:
    return lambda: (Methods().eval(), args or (x(),), {"method": name})


CALLS = [
    bad("no arguments", call(), InputError, "signature", "missing", "input"),
    bad("one too many", call(x(), x()), InputError, "signature"),
    bad("unknown keyword", call(x(), kwargs={"inptu": x()}), InputError, "signature"),
    bad("argument given twice", call(x(), kwargs={"input": x()}), InputError, "multiple values"),
    bad("keyword misspelt", given(Keyword, x(), kwargs={"scael": 2.0}), InputError, "scael"),
    bad("keyword by place", given(Keyword, x(), 2.0), InputError, "signature"),
    bad("keywords as a list", call(x(), kwargs=[("input", 1)]), InputError, "must be a mapping"),
    bad("keywords that are numbers", call(x(), kwargs={1: x()}), InputError, "keywords must be strings"),
    bad("arguments are a number", lambda: (conv().eval(), 3, {}), InputError, "args"),
    bad("arguments are none", lambda: (conv().eval(), None, {}), InputError, "args"),
    bad("arguments are a word", lambda: (conv().eval(), "x", {}), InputError, "args"),
    bad("no tensor in the call", call(3), InputError, "no tensor"),
    bad("list of numbers", call([1.0, 2.0]), InputError, "no tensor"),
    bad("array of numpy", call(x().numpy()), InputError, "no tensor"),
    bad("too few axes", call(x(3, 8)), InputError, "(3, 8)"),
    bad("too many axes", call(x(1, 1, 3, 1, 8, 8)), InputError, "(1, 1, 3, 1, 8, 8)"),
    bad("number as a tensor", call(torch.tensor(3.0)), InputError, "the model itself fails"),
    bad("wrong channels", call(x(1, 4, 1, 8, 8)), InputError, "(1, 4, 1, 8, 8)", "Pass an example"),
    bad("whole numbers", call(torch.zeros(SIZE, dtype=torch.int64)), InputError, "torch.int64"),
    bad("truth values", call(torch.zeros(SIZE, dtype=torch.bool)), InputError, "torch.bool"),
    bad("wider type than the weights", call(x().double()), InputError, "torch.float64"),
    bad("narrower type than the weights", call(x().half()), InputError, "torch.float16"),
    bad("complex input", call(x(dtype=torch.complex64)), RefusedError, "complex", "'input'"),
    bad("sparse input", call(x().to_sparse()), RefusedError, "sparse"),
    bad("compressed sparse input", call(x(8, 8).to_sparse_csr()), RefusedError, "sparse_csr"),
    bad("quantised input", call(torch.quantize_per_tensor(x(), 0.1, 0, torch.quint8)), RefusedError, "quantised"),
    bad("nested input", call(torch.nested.nested_tensor([x(3, 1, 8, 8)])), RefusedError, "nested"),
    bad("mkldnn input", call(x().to_mkldnn()), RefusedError, "mkldnn"),
    bad("input without data", call(x(device="meta")), RefusedError, "no data"),
    bad("input with a convolution of its own", call(x().as_subclass(Doubles)), RefusedError, "Doubles", "operators of its own"),
    bad("lazy input", call(nn.UninitializedParameter()), RefusedError, "lazy"),
    bad("kernel larger than the input", given(lambda: conv(3, 4, 5, padding=0).eval()), InputError, "Kernel size", "Pass an example"),
    bad("fake input", lambda: (conv().eval(), (fake(),), {}), RefusedError, "no data"),
    bad("unknown method", methods("decode"), InputError, "no method 'decode'", "forward"),
    bad("method is a number", methods("number"), InputError, "no method 'number'"),
    bad("method is a constant", methods("constant"), InputError, "no method 'constant'"),
    bad("method raises when it is looked up", methods("raising"), InputError, "raising"),
    bad("method is a module of another signature", methods("state_dict"), InputError, "the model itself fails"),
    bad("method takes nothing", methods("nothing"), InputError, "signature"),
    bad("method has a dot", methods("conv.forward"), InputError, "no method 'conv.forward'"),
    bad("method is empty", methods(""), InputError, "no method ''"),
    bad("method with a terminal code", methods("\x1b[2J"), InputError, "\\x1b[2J"),
    bad("method is no word", methods(3), InputError, "method"),
    bad("unknown way of weights", call(x(), weights="new"), InputError, "'new'", "'folded' or 'shared'"),
    bad("unknown way of sizes", call(x(), dynamic="some"), InputError, "'some'", "'auto'"),
    bad("declarations as a list", call(x(), assume=[flatconv.repeated(2)]), InputError, "assume is of type list", "flatconv.repeated"),
    bad("declared of no input", call(x(), assume={"inptu": flatconv.repeated(2)}), InputError, "'inptu'", "input"),
    bad("declared by a number", call(x(), assume={"input": 2}), InputError, "write flatconv.repeated"),
    bad("declared of a dimension that is not there", call(x(), assume={"input": flatconv.repeated(7)}), InputError, "no dimension 7"),
    bad("declared and not true of the example", call(x(), assume={"input": flatconv.repeated(1)}), InputError, "slice 1 differs"),
    bad("laid out in a dimension of another size", call(x(), assume={"input": flatconv.repeated(-1, within=(3, 2, 14, 14), axis=1)}), InputError, "size 9", "makes 1176"),
    bad("laid out and not true of the example", call(x(), assume={"input": flatconv.repeated(-1, within=(3, 3), axis=0)}), InputError, "axis 0 of dimension 4 seen as 3×3", "slice 1 differs"),
    bad("model is a class", lambda: (nn.Conv3d, (x(),), {}), InputError, "torch.nn.Module is needed"),
    bad("model is a function", lambda: (F.relu, (x(),), {}), InputError, "torch.nn.Module is needed", "function"),
    bad("model is none", lambda: (None, (x(),), {}), InputError, "NoneType"),
    bad("model is its weights", lambda: (conv().state_dict(), (x(),), {}), InputError, "OrderedDict"),
    bad("model is a name", lambda: ("model.pt", (x(),), {}), InputError, "str"),
]  # fmt: skip


def fake() -> torch.Tensor:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.empty(SIZE)


# ---- results


class Odd:
    """A result with slots only."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


RESULTS = [
    bad("returns nothing", net(lambda y, m: None), RefusedError, "returns no tensor", "NoneType"),
    bad("returns a number", net(lambda y, m: 3.0), RefusedError, "returns no tensor but float"),
    bad("returns a word", net(lambda y, m: "done"), RefusedError, "returns no tensor but str"),
    bad("returns an empty tuple", net(lambda y, m: ()), RefusedError, "returns no tensor but tuple"),
    bad("returns a generator", net(lambda y, m: (v for v in (y,))), RefusedError, "the output is a builtins.generator"),
    bad("returns an iterator", net(lambda y, m: iter([y])), RefusedError, "list_iterator"),
    bad("returns a function", net(lambda y, m: lambda: y), RefusedError, "function"),
    bad("returns a module", net(lambda y, m: m.conv), RefusedError, "Conv3d"),
    bad("returns an object with slots", net(lambda y, m: Odd(y)), RefusedError, "Odd", "cannot be rebuilt"),
    bad("returns a set", net(lambda y, m: {y}), RefusedError, "set"),
    bad("returns an array of numpy", net(lambda y, m: y.detach().numpy()), RefusedError, "numpy.ndarray"),
    bad("returns a number out of the data", net(lambda y, m: (y, y.sum().item())), RefusedError, "the output[1]"),
    bad("returns a class", net(lambda y, m: (y, nn.Module)), RefusedError, "cannot be rebuilt"),
    bad("returns complex numbers", net(lambda y, m: torch.complex(y, y)), RefusedError, "complex"),
    bad("returns a masked tensor", net(lambda y, m: torch.masked.masked_tensor(y, y > 0)), RefusedError, "Net.forward"),
    bad("returns a sparse tensor", net(lambda y, m: y.to_sparse()), RefusedError, "sparse"),
]  # fmt: skip


# ---- what forward does


def touches(y: torch.Tensor, m: Any) -> torch.Tensor:
    return y if y.sum() > 0 else -y


def loops(y: torch.Tensor, m: Any) -> torch.Tensor:
    while y.abs().max() > 1:
        y = y / 2
    return y


def deep(y: torch.Tensor, m: Any) -> torch.Tensor:
    return deep(y, m)


def cond(y: torch.Tensor, m: Any) -> torch.Tensor:
    return torch.cond(y.sum() > 0, lambda v: v.sin(), lambda v: v.cos(), (y,))


def while_loop(y: torch.Tensor, m: Any) -> torch.Tensor:
    from torch._higher_order_ops.while_loop import while_loop as loop

    return loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (torch.zeros((), dtype=torch.int64), y))[1]


def mapped(y: torch.Tensor, m: Any) -> torch.Tensor:
    from torch._higher_order_ops.map import map as each

    return each(lambda v: v.sin(), y)


class Sine(torch.autograd.Function):
    """A function with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(v.detach().numpy().copy()).sin()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g


@torch.library.custom_op("flatconv_bad::without_form", mutates_args=())
def without_form(v: torch.Tensor) -> torch.Tensor:
    """An operator that torch.export knows no shape of."""
    return v.sin()


@torch.library.custom_op("flatconv_bad::in_place", mutates_args={"v"})
def in_place(v: torch.Tensor) -> None:
    """An operator that changes its input."""
    v.mul_(2)


def ran_in_place(y: torch.Tensor, m: Any) -> torch.Tensor:
    torch.ops.flatconv_bad.in_place(m.held)
    return y + m.held


def counts_calls(y: torch.Tensor, m: Any) -> torch.Tensor:
    m.calls += 1
    return y * m.calls


def keeps_last(y: torch.Tensor, m: Any) -> torch.Tensor:
    made = y if m.last is None else y + m.last
    m.last = y
    return made


CALLED: list[int] = []


def other_default(y: torch.Tensor, m: Any) -> torch.Tensor:
    torch.set_default_dtype(torch.float64)
    try:
        return y + torch.ones(1)
    finally:
        torch.set_default_dtype(torch.float32)


class ChangesInput(nn.Module):
    def __init__(self, how: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.conv = conv()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.how(x)
        return self.conv(x)


def changes(how: Callable[[torch.Tensor], object]) -> Callable[[], Any]:
    return lambda: (ChangesInput(how).eval(), (x(),), {})


def remember(y: torch.Tensor, m: Any) -> torch.Tensor:
    m.held.copy_(y)
    return y


def count(y: torch.Tensor, m: Any) -> torch.Tensor:
    m.held += 1
    return y * m.held


def step(y: torch.Tensor, m: Any) -> torch.Tensor:
    m.conv.weight.data.mul_(0.5)
    return y


def write(y: torch.Tensor, m: Any) -> torch.Tensor:
    with torch.no_grad():
        m.conv.weight[0].zero_()
    return y


def buffered(then: Callable[..., Any], value: Callable[[], torch.Tensor]) -> Callable[[], Any]:
    def make() -> Any:
        made = Net(then)
        made.register_buffer("held", value())
        return made.eval(), (x(),), {}

    return make


FORWARD = [
    bad("branch on the data", net(touches), RefusedError, "cannot be captured", "fold the submodule"),
    bad("loop on the data", net(loops), RefusedError, "cannot be captured"),
    bad("number out of the data", net(lambda y, m: y * int(y.sum())), RefusedError, "cannot be captured"),
    bad("size out of the data", net(lambda y, m: torch.zeros(int(y.abs().sum())) + y.sum()), RefusedError, "cannot be captured"),
    bad("places of the data", net(lambda y, m: y.nonzero()), RefusedError, "size depends on the data"),
    bad("mask", net(lambda y, m: y[y > 0]), RefusedError, "size depends on the data"),
    bad("masked_select", net(lambda y, m: torch.masked_select(y, y > 0)), RefusedError, "size depends on the data"),
    bad("unique", net(lambda y, m: torch.unique(y)), RefusedError, "size depends on the data"),
    bad("bincount", net(lambda y, m: torch.bincount(y.flatten().abs().long())), RefusedError, "cannot be captured"),
    bad("repeated by the data", net(lambda y, m: y.flatten().repeat_interleave(y.flatten().abs().long())), RefusedError, "Net.forward"),
    bad("sliced by the data", net(lambda y, m: y[..., : int(y.argmax())]), RefusedError, "cannot be captured"),
    bad("assertion on the data", net(lambda y, m: y if bool(y.isfinite().all()) else None), RefusedError, "cannot be captured"),
    bad("numpy in the middle", net(lambda y, m: torch.from_numpy(y.detach().numpy() * 2)), RefusedError, "cannot be captured"),
    bad("memory of the data", net(lambda y, m: y + y.data_ptr() % 2), RefusedError, "cannot be captured"),
    bad("as_strided", net(lambda y, m: y.as_strided((4,), (1,))), RefusedError, "as_strided", "slices or reshapes"),
    bad("as_strided of a view", net(lambda y, m: torch.as_strided(y[:, 1:], (2, 2), (2, 1))), RefusedError, "as_strided"),
    bad("control flow: cond", net(cond), RefusedError, "cond", "submodule"),
    bad("control flow: while", net(while_loop), RefusedError, "while_loop", "submodule"),
    bad("control flow: map", net(mapped), RefusedError, "map", "submodule"),
    bad("vmap inside", net(lambda y, m: torch.func.vmap(lambda v: v.sum(1, keepdim=True))(y)), RefusedError, "functorch"),
    bad("random numbers", net(lambda y, m: y + torch.randn_like(y)), RefusedError, "draws random numbers", "noise"),
    bad("random numbers of its own", net(lambda y, m: y + torch.rand(1)), RefusedError, "draws random numbers"),
    bad("bernoulli", net(lambda y, m: torch.bernoulli(y.sigmoid())), RefusedError, "draws random numbers"),
    bad("dropout of everything", net(lambda y, m: F.dropout(y, 1.0, training=True)), RefusedError, "random"),
    bad("random numbers of a generator", net(lambda y, m: y + torch.randn(y.shape, generator=torch.Generator())), RefusedError, "draws random numbers"),
    bad("module made on the way", net(lambda y, m: nn.Conv3d(4, 2, 1)(y)), RefusedError, "draws random numbers"),
    bad("copy made on the way", net(lambda y, m: copy.deepcopy(m.conv)(torch.zeros(SIZE)) + y), RefusedError, "cannot be captured"),
    bad("random numbers of Python", net(lambda y, m: y * random.random()), VerificationError, "the capture is not the model"),
    bad("random numbers of numpy", net(lambda y, m: y * numpy.random.rand()), VerificationError, "the capture is not the model"),
    bad("counts its calls for all", net(lambda y, m: (CALLED.append(1), y * len(CALLED))[1]), VerificationError, "the capture is not the model"),
    bad("other default type meanwhile", net(other_default), VerificationError, "torch.float64"),
    bad("random order", net(lambda y, m: y[:, torch.randperm(4)]), RefusedError, "random"),
    bad("function with a backward, through numpy", net(lambda y, m: Sine.apply(y)), RefusedError, "cannot be captured"),
    bad("operator without a form", net(lambda y, m: torch.ops.flatconv_bad.without_form(y)), RefusedError, "cannot be captured"),
    bad("operator that changes a buffer", buffered(ran_in_place, lambda: torch.ones(1)), RefusedError, "auto_functionalized"),
    bad("changes its input", changes(lambda v: v.add_(1)), RefusedError, "changes", "in place"),
    bad("changes a view of its input", changes(lambda v: v[:, 0].zero_()), RefusedError, "changes", "in place"),
    bad("writes into its input", changes(lambda v: v.__setitem__((..., 0), 0.0)), RefusedError, "changes", "in place"),
    bad("clamps its input", changes(lambda v: F.relu_(v)), RefusedError, "changes", "in place"),
    bad("keeps its result in a buffer", buffered(remember, lambda: torch.zeros(1, 4, 1, 8, 9)), RefusedError, "held", "in place"),
    bad("counts its calls in a buffer", buffered(count, lambda: torch.zeros(())), RefusedError, "held", "in place"),
    bad("counts its calls in an attribute", net(counts_calls, calls=0), VerificationError, "state between calls", "Nothing was written"),
    bad("keeps its last result", net(keeps_last, last=None), VerificationError, "state between calls"),
    bad("keeps its last result, sizes free", lambda: (Net(keeps_last, last=None).eval(), (x(),), {"dynamic": "auto"}), VerificationError, "state between calls"),
    bad("changes its weights by .data", net(step), RefusedError, "cannot be captured"),
    bad("changes a part of its weights", net(write), RefusedError, "conv.weight"),
    bad("batch norm in train mode", lambda: (nn.Sequential(conv(), nn.BatchNorm3d(4)), (x(),), {}), RefusedError, "model.eval()"),
    bad("random slopes in train mode", lambda: (nn.Sequential(conv(), nn.RReLU()), (x(),), {}), RefusedError, "random", "model.eval()"),
    bad("raises", raising(lambda: ValueError("wrong weather")), InputError, "the model itself fails", "wrong weather"),
    bad("raises an error of its own", raising(lambda: OwnError("own words")), InputError, "OwnError", "own words"),
    bad("raises without words", raising(lambda: RuntimeError()), InputError, "RuntimeError"),
    bad("raises what cannot be printed", raising(UnprintableError), InputError, "UnprintableError"),
    bad("raises a terminal code", raising(lambda: ValueError("\x1b[2J\x1b]0;owned\x07\r\u202e")), InputError, "\\x1b[2J"),
    bad("raises a megabyte", raising(lambda: ValueError("long " * 200_000)), InputError, "long long"),
    bad("raises many lines", raising(lambda: ValueError("one\n" * 5000)), InputError, "one"),
    bad("raises half a character", raising(lambda: ValueError("\ud800")), InputError, "\\ud800"),
    bad("assertion without words", raising(lambda: AssertionError()), InputError, "AssertionError"),
    bad("never ends its recursion", net(deep), InputError, "RecursionError"),
    bad("is not written yet", raising(NotImplementedError), InputError, "NotImplementedError"),
    bad("out of memory", raising(lambda: MemoryError()), InputError, "MemoryError"),
    bad("stops an iteration", raising(lambda: StopIteration()), InputError, "StopIteration"),
    bad("forward is missing", given(nn.Module, x()), InputError, "forward"),
    bad("list of modules", given(lambda: nn.ModuleList([conv()])), InputError, "forward"),
    bad("module that was not set up", given(lambda: type("Half", (nn.Module,), {"__init__": lambda s: None, "forward": lambda s, x: x})()), InputError, "Half", "__init__"),
    bad("attribute that is missing", net(lambda y, m: m.nothing(y)), InputError, "nothing"),
]  # fmt: skip


# ---- weights


def weighing(change: Callable[[nn.Conv3d], Any]) -> Callable[[], Any]:
    def make() -> Any:
        made = conv()
        change(made)
        return nn.Sequential(made).eval(), (x(),), {}

    return make


def parameter(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], Any]:
    return weighing(lambda c: setattr(c, "weight", nn.Parameter(make(c.weight.detach()), requires_grad=False)))


def buffer(value: Callable[[], torch.Tensor]) -> Callable[[], Any]:
    return weighing(lambda c: c.register_buffer("held", value()))


def quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn.quantized import Conv3d

        return nn.Sequential(Conv3d(3, 4, 3)).eval()


def converted() -> Any:
    """A network quantised after training."""
    from torch.ao import quantization as q

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = nn.Sequential(q.QuantStub(), conv(), q.DeQuantStub()).eval()
        made.qconfig = q.get_default_qconfig("x86")
        q.prepare(made, inplace=True)
        made(x())
        q.convert(made, inplace=True)
    return made


def fake_quantised() -> Any:
    """A network in training for quantisation."""
    from torch.ao.quantization import FakeQuantize

    return nn.Sequential(conv(), FakeQuantize()).eval()


def own_weight() -> Any:
    made = conv()
    made.weight = nn.Parameter(made.weight.detach().as_subclass(Doubles))
    return made.eval()


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(conv()).eval())


def traced() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.Sequential(conv()).eval(), x())


def inside(make: Callable[[], nn.Module]) -> Callable[[], Any]:
    return lambda: (nn.Sequential(make(), nn.ReLU()).eval(), (x(),), {})


def named(name: str, kind: str = "module") -> Callable[[], Any]:
    def make() -> Any:
        made = Net(lambda y, m: y)
        if kind == "module":
            made.add_module(name, conv())
        elif kind == "parameter":
            made.register_parameter(name, nn.Parameter(torch.ones(1)))
        else:
            made.register_buffer(name, torch.ones(1))
        return made.eval(), (x(),), {}

    return make


WEIGHTS = [
    bad("complex weight", parameter(lambda w: w.to(torch.complex64)), RefusedError, "'0.weight' is complex"),
    bad("sparse weight", parameter(lambda w: w.to_sparse()), RefusedError, "'0.weight' is torch.sparse_coo"),
    bad("sparse buffer", buffer(lambda: torch.eye(3).to_sparse_csr()), RefusedError, "'0.held' is torch.sparse_csr"),
    bad("blocks of a sparse buffer", buffer(lambda: torch.eye(4).to_sparse_bsr((2, 2))), RefusedError, "sparse_bsr"),
    bad("quantised buffer", buffer(lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)), RefusedError, "'0.held' is quantised"),
    bad("complex buffer", buffer(lambda: torch.ones(2, dtype=torch.complex128)), RefusedError, "'0.held' is complex"),
    bad("nested buffer", buffer(lambda: torch.nested.nested_tensor([torch.ones(2)])), RefusedError, "'0.held'", "nested"),
    bad("mkldnn buffer", buffer(lambda: torch.ones(2).to_mkldnn()), RefusedError, "'0.held'", "mkldnn"),
    bad("weights of bytes", parameter(lambda w: w.to(torch.int8)), InputError, "the model itself fails"),
    bad("weights of truth values", parameter(lambda w: w > 0), InputError, "the model itself fails"),
    bad("weights of eight bits", parameter(lambda w: w.to(torch.float8_e4m3fn)), InputError, "the model itself fails"),
    bad("weights of another type", weighing(lambda c: c.double()), InputError, "the model itself fails"),
    bad("bias of another type", weighing(lambda c: setattr(c, "bias", nn.Parameter(c.bias.detach().half()))), InputError, "the model itself fails"),
    bad("weight of another shape", parameter(lambda w: w[:, :2]), InputError, "the model itself fails"),
    bad("weight is gone", weighing(lambda c: c.register_parameter("weight", None)), InputError, "the model itself fails"),
    bad("weights without data", weighing(lambda c: c.to("meta")), RefusedError, "no data"),
    bad("one weight without data", weighing(lambda c: setattr(c, "bias", nn.Parameter(torch.empty(4, device="meta")))), RefusedError, "no data"),
    bad("10¹² weights without data", given(lambda: nn.Conv3d(10**6, 10**5, (1, 3, 3), device="meta").eval(), torch.empty(1, 10**6, 1, 4, 4, device="meta")), RefusedError, "no data"),
    bad("lazy module", given(lambda: nn.Sequential(nn.LazyConv3d(4, 3)).eval()), RefusedError, "lazy", "call the model once"),
    bad("lazy norm", given(lambda: nn.Sequential(conv(), nn.LazyBatchNorm3d()).eval()), RefusedError, "lazy"),
    bad("quantised module", given(quantised), RefusedError, "quantised", "before quantising"),
    bad("quantised network", given(converted), RefusedError, "quantised"),
    bad("network being made ready for quantisation", given(fake_quantised), RefusedError, "Sequential.forward cannot be captured"),
    bad("weight with a convolution of its own", given(own_weight), RefusedError, "operators of its own"),
    bad("TorchScript", given(scripted), RefusedError, "TorchScript", "Python source"),
    bad("traced TorchScript", given(traced), RefusedError, "TorchScript"),
    bad("TorchScript inside", inside(scripted), RefusedError, "TorchScript"),
    bad("more than half can hold", lambda: (conv(3, 4, 3, padding=(1, 0, 0), padding_mode="replicate").half().eval().requires_grad_(False).apply(lambda m: m.weight.data.fill_(4e4)), (x().half(),), {}), RefusedError, "float16", "float32"),
    bad("name with a quotation mark", named('x"), open("canary", "w'), RefusedError, "rename it"),
    bad("name that would be code", named('x", 0) if open("canary", "w") else getattr(self, "conv'), RefusedError, "rename it"),
    bad("name with a backslash", named("a\\"), RefusedError, "rename it"),
    bad("name with a line end", named("a\nimport os"), RefusedError, "\\n", "rename it"),
    bad("name with a terminal code", named("\x1b[2J"), RefusedError, "\\x1b[2J", "rename it"),
    bad("name with a direction mark", named("\u202eabc"), RefusedError, "\\u202e", "rename it"),
    bad("name with a nul", named("a\0b"), RefusedError, "\\x00", "rename it"),
    bad("name of half a character", named("\ud800"), RefusedError, "\\ud800", "rename it"),
    bad("parameter's name that would be code", named('w") or open("canary", "w', "parameter"), RefusedError, "rename it"),
    bad("buffer's name that would be code", named('w") or open("canary", "w', "buffer"), RefusedError, "rename it"),
]  # fmt: skip

TABLE = [*CALLS, *RESULTS, *FORWARD, *WEIGHTS]
