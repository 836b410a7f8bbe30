"""The folded model: an ``nn.Module`` with the original's call signature, and the weights under the original's names."""

from __future__ import annotations

import copy
import linecache
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from flatconv.errors import InputError
from flatconv.guards import Guards
from flatconv.signature import Inputs, Outputs

if TYPE_CHECKING:
    from flatconv.report.fold import FoldReport


class Folded(nn.Module):
    """A rewritten model.

    Call it as the original was called. It checks its inputs against what it was folded for and raises ``GuardError``,
    naming the argument and the shape needed, where they do not fit.

    With ``weights="folded"`` the weights are copies: later changes of the original do not reach them. With
    ``weights="shared"`` they are the original's own parameters.

    Attributes:
        report: what was done and how far it was checked.
        graph: the new ATen graph.
        guards: what it assumes of its inputs.
        example_shapes: of the example it was folded for.
        example_devices: likewise.
    """

    report: FoldReport

    def __init__(
        self,
        graph: fx.Graph,
        state: Mapping[str, torch.Tensor],
        inputs: Inputs,
        outputs: Outputs,
        guards: Guards,
        example: Sequence[torch.Tensor],
    ) -> None:
        super().__init__()
        for name, tensor in state.items():
            _register(self, name, tensor)
        self.graph = graph
        self.guards = guards
        self.example_shapes = tuple(tuple(t.shape) for t in example)
        self.example_devices = tuple(t.device for t in example)
        self._inputs = inputs
        self._outputs = outputs
        self._compile()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the folded model; arguments and result as the original's."""
        tensors = self._inputs.flatten(args, kwargs)
        self.guards.check(tensors)
        results = self._run(self, *tensors)
        assert self._outputs.rebuild is not None
        return self._outputs.rebuild(results)

    @property
    def code(self) -> str:
        """The new graph as Python."""
        return self._source

    def save(self, path: Any, *, force: bool = False) -> None:
        """Write a ``.pt2`` file that ``torch.export.load`` reads; it takes the tensor inputs in order."""
        from flatconv.files import save_program

        save_program(self, path, force=force)

    def save_weights(self, path: Any, *, force: bool = False) -> None:
        """Write the weights as ``.safetensors``: the original names, with lower rank where axes were dropped."""
        from flatconv.files import save_weights

        save_weights(self, path, force=force)

    def _compile(self) -> None:
        python = self.graph.python_code("self")
        self._source = python.src
        # Kept where Python looks for source lines, so that tracebacks and torch.compile can show them.
        name = f"<flatconv {id(self):x}>"
        linecache.cache[name] = (len(python.src), None, python.src.splitlines(True), name)
        scope = dict(python.globals)
        exec(compile(python.src, name, "exec"), scope)
        self._run: Callable[..., tuple[torch.Tensor, ...]] = scope["forward"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Folded:
        made = Folded.__new__(Folded)
        memo[id(self)] = made
        nn.Module.__init__(made)
        # Code, guards and report never change; the weights do.
        copied = ("_parameters", "_buffers", "_modules")
        made.__dict__.update({k: copy.deepcopy(v, memo) if k in copied else v for k, v in self.__dict__.items()})
        return made

    def __copy__(self) -> Folded:
        made = Folded.__new__(Folded)
        made.__dict__.update(self.__dict__)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "a folded model cannot be pickled: write it with .save('model.pt2') or .save_weights('w.safetensors')"
        )


def _register(root: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a tensor where its dotted name says, making plain containers on the way."""
    *path, leaf = name.split(".")
    module = root
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        child = module._modules[part]
        assert child is not None
        module = child
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(leaf, tensor)
    else:
        module.register_buffer(leaf, tensor)
