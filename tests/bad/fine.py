"""Models and calls that look bad and are not: folded, they give what the original gives.

A row is (name, function without arguments that returns (model, args, options of fold)).
"""

# A row that is a line reads better than one that is broken up.
# ruff: noqa: E501

from __future__ import annotations

import collections
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from tests.bad.models import SIZE, Keyword, Net, conv, x

Row = tuple[str, Callable[[], Any]]
Point = collections.namedtuple("Point", "left right")


@dataclasses.dataclass
class Pair:
    first: Any
    second: Any


class Subclass(torch.Tensor):
    """A tensor with a name of its own and nothing else."""


class Triple(nn.Module):
    """A parametrisation: a weight and a low-rank change of it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(81, 2)), nn.Parameter(torch.randn(2, 4))

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return w + (self.down @ self.up).T.reshape(w.shape) * 0.1


class Anything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.conv(args[0]) + kwargs["shift"]


class Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, given: Any, mode: str = "plain", mask: Any = None) -> Any:
        y = self.conv(given["image"][0])
        return y if mask is None or mode == "plain" else y * mask


class Forwards(nn.Module):
    """A wrapper that gives itself out as what it wraps, as sharding wrappers do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._wrapped = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_wrapped"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._wrapped(*args, **kwargs)


class OwnCall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) * 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        return v * 2

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g * 2


@torch.library.custom_op("flatconv_bad::with_form", mutates_args=())
def with_form(v: torch.Tensor) -> torch.Tensor:
    """An operator that flatconv does not know."""
    return v.flip(1)


@with_form.register_fake
def _(v: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(v)


def net(then: Callable[..., Any], **held: Any) -> Callable[[], Any]:
    return lambda: (Net(then, **held).eval(), (x(),), {})


def hooked(add: Callable[[nn.Module], Any]) -> Callable[[], Any]:
    def make() -> Any:
        made = nn.Sequential(conv(), nn.ReLU()).eval()
        add(made)
        return made, (x(),), {}

    return make


def of(make: Callable[[], nn.Module], *args: Any, **options: Any) -> Callable[[], Any]:
    return lambda: (make().eval(), args or (x(),), options)


def plain(example: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: (nn.Sequential(conv(), nn.ReLU()).eval(), (example(),), {})


def named(name: str) -> Callable[[], Any]:
    def make() -> Any:
        made = nn.Sequential()
        made.add_module(name, conv())
        made.add_module("last", conv(4, 2, 3))
        return made.eval(), (x(),), {"verify": False}

    return make


def no_grad(y: torch.Tensor, m: Any) -> torch.Tensor:
    with torch.no_grad():
        return y * 2


def inference(y: torch.Tensor, m: Any) -> torch.Tensor:
    with torch.inference_mode():
        return y * 2


def autocast(y: torch.Tensor, m: Any) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.conv3d(y, m.conv.weight[:, :1].expand(4, 4, 3, 3, 3), padding=1)


def checkpointed(y: torch.Tensor, m: Any) -> torch.Tensor:
    from torch.utils.checkpoint import checkpoint

    return checkpoint(lambda v: v.relu() * 2, y, use_reentrant=False)


def in_place(y: torch.Tensor, m: Any) -> torch.Tensor:
    y[:, 1:].mul_(2)
    y += 1
    y[..., 0] = 0
    return y.clamp_(-1, 1)


def prints(y: torch.Tensor, m: Any) -> torch.Tensor:
    print("a model that talks")
    return y


def spectrum(y: torch.Tensor, m: Any) -> torch.Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(y) * 2, s=y.shape[-2:])


def tied() -> nn.Module:
    made = nn.Sequential(conv(3, 3, 3), nn.ReLU(), conv(3, 3, 3))
    made[2].weight = made[0].weight
    return made


def normed(how: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nn.Sequential(how(conv()), nn.ReLU())

    return make


def low_rank() -> nn.Module:
    made = conv()
    parametrize.register_parametrization(made, "weight", Triple())
    return made


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(4, 3, 3, 3, 3))])
        self.by = nn.ParameterDict({"class": nn.Parameter(torch.randn(4))})
        self.last = nn.ModuleDict({"report": conv(4, 2, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last["report"](F.conv3d(x, self.weights[0], self.by["class"], padding=1))


def nan() -> torch.Tensor:
    made = x()
    made[0, 0, 0, 0, 0] = torch.nan
    return made


NAMES = [
    "class", "None", "lambda", "self", "0", "9x", "two words", "it's", "[red]", "{x}", "%s", "日本", "naïve", "ª", "ａ", "a,b", "a=b",
    "graph", "guards", "report", "code", "save", "_run", "_inputs", "_outputs", "_source", "example_shapes", "save_weights", "a" * 3000,
]  # fmt: skip

TABLE: list[Row] = [
    ("hook that changes the result", hooked(lambda m: m[0].register_forward_hook(lambda s, a, y: y * 2))),
    ("hook before, that changes the input", hooked(lambda m: m[0].register_forward_pre_hook(lambda s, a: (a[0] + 1,)))),
    ("hook with keywords", hooked(lambda m: m.register_forward_hook(lambda s, a, k, y: y - 1, with_kwargs=True))),
    ("hook that only looks", hooked(lambda m: m[1].register_forward_hook(lambda s, a, y: None))),
    ("hook on the way back", hooked(lambda m: m[0].register_full_backward_hook(lambda s, a, b: None))),
    ("no_grad inside", net(no_grad)),
    ("autocast inside", net(autocast)),
    ("inference mode inside", net(inference)),
    ("fork inside", net(lambda y, m: torch.jit.fork(torch.relu, y).wait())),
    ("state read inside", net(lambda y, m: y * m.state_dict()["conv.bias"].sum())),
    ("checkpoint inside", net(checkpointed)),
    ("function with a backward of its own", net(lambda y, m: Twice.apply(y))),
    ("operator that flatconv does not know", net(lambda y, m: torch.ops.flatconv_bad.with_form(y))),
    ("in-place operators on its own tensors", net(in_place)),
    ("prints", net(prints)),
    ("complex numbers in the middle", net(spectrum)),
    ("number out of the data, as a factor", net(lambda y, m: y * y.flatten()[:2].tolist()[0])),
    ("mask that keeps its size", net(lambda y, m: torch.where(y > 0, y, m.mask.to(y.dtype)), mask=torch.ones(1, 4, 1, 8, 9) > 0)),
    ("table of bytes", net(lambda y, m: y + m.table[y.abs().long().clamp(max=3)], table=torch.arange(4, dtype=torch.uint8))),
    ("sorted", net(lambda y, m: y.sort(-1)[0])),
    ("chosen by the data", net(lambda y, m: y.gather(-1, y.argsort(-1)))),
    ("returns a dictionary of numbers", net(lambda y, m: {1: y, 2.5: y + 1, None: 3})),
    ("returns a dataclass", net(lambda y, m: Pair(y, Pair(y * 2, "word")))),
    ("returns a named tuple", net(lambda y, m: Point(y, [y, 3, None]))),
    ("returns the same tensor twice", net(lambda y, m: (y, y))),
    ("returns a weight", net(lambda y, m: (y, m.conv.bias))),
    ("returns no depth", net(lambda y, m: y.squeeze(2))),
    ("weight_norm", of(normed(parametrizations.weight_norm))),
    ("weight_norm of old", of(normed(nn.utils.weight_norm))),
    ("spectral_norm", of(normed(parametrizations.spectral_norm))),
    ("low-rank change of a weight", of(low_rank)),
    ("tied weights", of(tied)),
    ("lists and dictionaries of weights", of(Lists)),
    ("compiled part", of(lambda: nn.Sequential(torch.compile(conv(), backend="eager"), nn.ReLU()))),
    ("average of models", of(lambda: torch.optim.swa_utils.AveragedModel(conv()))),
    ("compiled model", of(lambda: torch.compile(conv(), backend="eager"))),
    ("data parallel", of(lambda: nn.DataParallel(conv()))),
    ("wrapper that gives itself out as another", of(lambda: Forwards(conv()))),
    ("call of its own", of(OwnCall)),
    ("any arguments", of(Anything, x(), kwargs={"shift": torch.ones(1)})),
    ("keyword-only argument", of(Keyword, x(), kwargs={"scale": 2.5})),
    ("containers as arguments", of(Containers, {"image": [x()], "other": None}, "masked", torch.ones(1))),
    ("dropout switched off", of(lambda: nn.Sequential(conv(), nn.Dropout(0.5)))),
    ("dropout of nothing, in train mode", of(lambda: nn.Sequential(conv(), nn.Dropout(0.0)).train())),
    ("frozen weights", of(lambda: conv().requires_grad_(False))),
    ("float16", of(lambda: conv().half(), x().half())),
    ("bfloat16", of(lambda: conv().bfloat16(), x().bfloat16())),
    ("float64", of(lambda: conv().double(), x().double())),
    ("example with a gradient", plain(lambda: x(requires_grad=True))),
    ("example that is a parameter", plain(lambda: nn.Parameter(x()))),
    ("example of a subclass of tensor", plain(lambda: x().as_subclass(Subclass))),
    ("example out of inference mode", of(lambda: conv().requires_grad_(False), torch.inference_mode()(lambda: torch.ones(SIZE))())),
    ("example expanded from one number", plain(lambda: torch.ones(1).expand(SIZE))),
    ("example that lies over itself", plain(lambda: torch.randn(40).as_strided(SIZE, (1, 2, 1, 3, 1)))),
    ("example with odd strides", plain(lambda: x(1, 9, 1, 8, 3).transpose(1, 4))),
    ("example channels-last", plain(lambda: x().to(memory_format=torch.channels_last_3d))),
    ("example with a NaN", plain(nan)),
    ("example of infinities", plain(lambda: torch.full(SIZE, torch.inf))),
    ("example of subnormal numbers", plain(lambda: torch.full(SIZE, 1e-42))),
    ("argument that is one tensor", lambda: (conv().eval(), x(), {})),
    ("arguments as a list", lambda: (conv().eval(), [x()], {})),
    *((f"module named {ascii(n)[:24]}", named(n)) for n in NAMES),
]  # fmt: skip
