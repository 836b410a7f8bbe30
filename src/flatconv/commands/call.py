"""The model and the call that a command line names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from flatconv import inputs
from flatconv.commands.console import step
from flatconv.errors import InputError
from flatconv.onnx_in import OnnxModel
from flatconv.spec import ONNX, load_model
from flatconv.stack import Stack, Window, stack

Example = tuple[list[torch.Tensor], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Call:
    """Which model, called how, on what; the fields are the options of the same names."""

    spec: str
    input: list[str] | None = None
    image: str | None = None
    images: str | None = None
    how: str | None = None
    size: str | None = None
    channels: str | None = None
    layout: str | None = None
    method: str = "forward"
    trust: bool = False
    state: str | None = None

    def model(self) -> nn.Module:
        """The model, built."""
        return self._built

    @cached_property
    def _built(self) -> nn.Module:
        found: nn.Module = step(f"building {self.spec}", lambda: load_model(self.spec, self.trust, self.state))
        return found

    def example(self) -> Example:
        """The tensors of the call: a picture or the first window of a stack first, then what has a size."""
        if self.input is None and self.image is None and self.images is None and self.spec.endswith(ONNX):
            model = self.model()
            assert isinstance(model, OnnxModel)
            return model.example(), {}
        if self.stack is None:
            return inputs.read_inputs(self.input or (), self.image)
        assert self.window is not None
        args, kwargs = inputs.read_inputs(self.input, None) if self.input else ([], {})
        return [self.window.data, *args], kwargs

    @cached_property
    def stack(self) -> Stack | None:
        """What ``--images`` and ``--stack`` name.

        Raises:
            InputError: one of the two is missing, or an option is given that needs them.
        """
        if self.images is None:
            for name in ("how", "size", "channels", "layout"):
                if getattr(self, name) is not None:
                    word = "stack" if name == "how" else name
                    raise InputError(f"--{word} is for --images SOURCE, which is missing")
            return None
        if self.how is None:
            raise InputError(
                "--images needs --stack too, which says what depth is: --stack single, time:16, slices:5, bands"
            )
        if self.image is not None:
            raise InputError("--image and --images are two inputs, and one is needed: leave one out")
        found: Stack = step(f"looking at {self.images}", lambda: stack(self.images, str(self.how), **self._options()))
        return found

    @cached_property
    def window(self) -> Window | None:
        """The first window of the stack."""
        return None if self.stack is None else self.stack[0]

    def _options(self) -> dict[str, Any]:
        size = None if self.size is None else inputs.read_pair(self.size, "--size")
        return {"size": size, "channels": self.channels, "layout": self.layout}

    def arguments(self) -> list[str]:
        """The same model and call, for another process."""
        given = [self.spec, "--method", self.method, *(a for s in self.input or [] for a in ("--input", s))]
        named = {
            "image": self.image, "images": self.images, "stack": self.how, "size": self.size, "channels": self.channels,
            "layout": self.layout, "state": self.state,
        }  # fmt: skip
        given += [a for name, value in named.items() if value is not None for a in (f"--{name}", value)]
        return [*given, *(["--trust"] if self.trust else [])]
