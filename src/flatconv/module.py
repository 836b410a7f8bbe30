"""The folded model: an ``nn.Module`` with the original's call signature, and the weights under the original's names."""

from __future__ import annotations

import copy
import itertools
import linecache
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from flatconv import mixed
from flatconv.aliases import owner
from flatconv.errors import GuardError, InputError
from flatconv.gradients import LAYOUT
from flatconv.rank4 import Boundary, lowered
from flatconv.reuse import in_place
from flatconv.state import Structure, mirror, read, register, shape_of_state

if TYPE_CHECKING:
    from flatconv.capture import Capture
    from flatconv.deploy import Exported
    from flatconv.report.fold import FoldReport


Run = Callable[..., tuple[torch.Tensor, ...]]
PLAIN = (torch.Tensor, nn.Parameter)
KINDS = 256
"""Kinds of inputs that are remembered."""
READ = "_flatconv_read_"
LITERALS = "_flatconv_literals"
"""Holds the tensors written in the original's code, which are not part of its state."""
OWN = frozenset(
    (
        "report", "graph", "guards", "assumed", "example_shapes", "example_devices", "_inputs", "_outputs", "_other_mode",
        "_captured_mode", "_dtypes", "_devices", "_home", "_moved", "_asked", "_source", "_run", "_functional",
        "_passed", "_literals", "_full", "_run_full", "_functional_full", "boundary", "_updates",
        "stops", "reads", "_shape_of_state", "_lends", "_operators", "_asks", "_mixes", "_structure",
    )
)  # fmt: skip
"""The attributes of a folded model that are not part of its state."""


class Folded(nn.Module):
    """A rewritten model.

    Call it as the original was called. It checks its inputs against what it was folded for and raises ``GuardError``,
    naming the argument and the shape needed, where they do not fit.

    With ``weights="folded"`` the weights are copies: later changes of the original do not reach them, so fold again after
    training or loading. With ``weights="shared"`` they are the original's own: it follows every change of a value, a parameter
    or a buffer. Calls are refused once parameters, modules or hooks in it were added, replaced or taken away.

    ``.to(device)`` moves it. ``.train()`` and ``.eval()`` work as on the original where its code does not look at the mode;
    where it does (batch norm, dropout), only the mode of the capture is there, and a call in the other one says so.

    With ``repeated(otherwise="full")`` it has two forms and one state: weights that only the full form needs stand beside the
    others under numbered names, such as ``conv.weight__2``.

    Attributes:
        report: what was done and how far it was checked.
        graph: the new ATen graph.
        guards: what it assumes of its inputs.
        assumed: what was declared of them.
        example_shapes: of the example it was folded for.
        example_devices: likewise.
        stops: what the original's code does to gradients and a program of its values does not show; calls that ask for
            gradients are refused then.
        reads: names of the original's parameters and buffers that it computes with.
        boundary: with ``rank4=True``, the axes that stay outside of the graph; else None.
    """

    report: FoldReport
    boundary: Boundary | None
    _shape_of_state: tuple[Any, ...] | None
    _functional: Run
    _run: Run
    _full: fx.Graph | None
    _functional_full: Run | None
    _run_full: Run | None

    def __init__(
        self,
        graph: fx.Graph,
        state: Mapping[str, torch.Tensor],
        captured: Capture,
        follow: bool = False,
        full: fx.Graph | None = None,
    ) -> None:
        super().__init__()
        if follow:
            mirror(self, captured.model)
            self._modules[LITERALS] = nn.Module()
        self._literals = frozenset(state) if follow else frozenset()
        for name, tensor in state.items():
            register(self, f"{LITERALS}.{name}" if follow else name, tensor, persistent=not follow)
        self.graph = graph
        # The graph that a call takes of which a declaration with otherwise="full" is not true. It reads the same state.
        self._full = full
        self.guards = captured.guards
        self.assumed = captured.assumed
        self.example_shapes = tuple(tuple(t.shape) for t in captured.example)
        self.example_devices = tuple(t.device for t in captured.example)
        self._inputs = captured.inputs
        self._outputs = captured.outputs
        mode = captured.model.training
        # Setting the mode of all modules leaves those alone that have it already.
        self._other_mode = tuple(path for path, m in captured.modes.items() if m == mode)
        self._captured_mode = mode
        self._updates = captured.updates
        self.stops, self.reads = captured.stops, captured.reads
        self._shape_of_state = None
        self._structure: Structure | None = None
        self._lends = _lends(graph, captured)
        self._operators = mixed.of_program(captured.program)
        self._asks = captured.layouts
        self._mixes: dict[str, str | None] = {}
        self._dtypes = {name: t.dtype for name, t in self._state()}
        self._devices = self.example_devices
        places = {t.device for _, t in self._state()} | set(self.example_devices)
        self._home = places.pop() if len(places) == 1 else None
        self._moved = False
        self._passed: set[Any] = set()
        self._asked: set[int] = set()
        self.boundary = None
        self.train(mode)
        if follow:
            self._shape_of_state = shape_of_state(self)
            self._structure = Structure(captured.model)
        self._compile()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the folded model; arguments and result as the original's.

        Raises:
            GuardError: it was folded for other shapes, types, devices or another mode, or something declared is not true.
        """
        tensors = self._inputs.flatten(args, kwargs)
        self._check_mode()
        self._check_inputs(tensors)
        if mixed.active():
            self._check_autocast(tensors)
        if self._lends and not all(t.is_contiguous() for t in tensors):
            raise GuardError(
                "an input is not contiguous, and the model's code looks at that, or a result lies in the memory of an input, "
                "which in the original depends on it: pass tensor.contiguous()"
            )
        # Gradients need what the steps read, so nothing is written over while they may be asked for.
        learns = torch.is_grad_enabled()
        if learns and self.stops:
            self._check_gradients(tensors)
        followed = self._shape_of_state is not None and not torch.compiler.is_compiling()
        if followed and shape_of_state(self) != self._shape_of_state:
            raise GuardError(
                "parameters or buffers of the model were added, taken away, tied, untied, or changed in shape or type since it "
                "was folded: fold it again"
            )
        if followed and self._structure is not None and (where := self._structure.changed()) is not None:
            raise GuardError(
                f"modules of the model, or hooks on them, are others than when it was folded ({where}): fold it again"
            )
        run = self._functional if learns else self._run
        full = self._functional_full if learns else self._run_full
        for i, assumed in enumerate(self.assumed):
            if learns and tensors[assumed.position].requires_grad and assumed.otherwise != "full":
                raise GuardError(
                    f"'{assumed.name}' requires a gradient, and of slices that are declared to be equal only one is read, so "
                    "that it would get the gradients of all: fold without the declaration"
                )
            if assumed.otherwise == "full":
                declared = tensors[assumed.position]
                if full is not None and (
                    (learns and declared.requires_grad) or assumed.difference(declared) is not None
                ):
                    run = full
            elif assumed.check == "always" or (assumed.check == "first" and i not in self._asked):
                assumed.require(tensors)
                self._asked.add(i)
        given = self.boundary.enter(tensors) if self.boundary else tensors
        try:
            results = run(self, *given)
        except RuntimeError:
            # Parts of it may have been converted one by one, or with the original that shares its weights.
            self._settle()
            self._check_places(tensors)
            raise
        if self._updates:
            results = self._updated(results)
        if self.boundary:
            results = self.boundary.leave(results)
        assert self._outputs.rebuild is not None
        return self._outputs.rebuild(results)

    def _check_gradients(self, tensors: Sequence[torch.Tensor]) -> None:
        """Refuse calls that ask for gradients, of a model whose code does something to them that the graph does not show."""
        asked = any(t.requires_grad for t in tensors)
        if asked or (self._shape_of_state is not None and any(p.requires_grad for p in self.parameters())):
            raise GuardError(
                f"the model's code does something to gradients that a program of its values does not show ({self.stops[0]}): "
                "call the original for gradients, or this under torch.no_grad()"
            )

    def _check_autocast(self, tensors: Sequence[torch.Tensor]) -> None:
        """Refuse calls under autocast where it may do something else than to the original."""
        for kind in dict.fromkeys(t.device.type for t in tensors):
            if kind not in self._mixes:
                why = (
                    mixed.unlike(self._operators, mixed.of_graph(g), self._asks, kind)
                    for g in (self.graph, self._full)
                    if g is not None
                )
                self._mixes[kind] = next((w for w in why if w is not None), None)
            if self._mixes[kind] is not None:
                raise GuardError(
                    f"autocast is on, and may do something else to this fold than to the model: {self._mixes[kind]}. Convert "
                    "the model to the narrow type and fold that, or call this with autocast off"
                )

    def _updated(self, results: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Put the new values of buffers in their place; the results proper are left."""
        for name, value in zip(self._updates, results, strict=False):
            path, _, leaf = name.rpartition(".")
            # As batch norm's own kernel does it: what the backward pass keeps of the buffer does not count as changed.
            self.get_submodule(path)._buffers[leaf].data.copy_(value.detach())  # type: ignore[union-attr]
        return results[len(self._updates) :]

    def _check_inputs(self, tensors: Sequence[torch.Tensor]) -> None:
        """The guards and the places; inputs like those that have passed need not be looked at again."""
        remembered = not torch.compiler.is_compiling() and all(type(t) in PLAIN for t in tensors)
        like = tuple((t.shape, t.dtype, t.device, t.layout) for t in tensors) if remembered else None
        if like is not None and not self._moved and like in self._passed:
            return
        self.guards.check(tensors)
        if self._moved:
            self._settle()
        self._check_places(tensors)
        if like is not None:
            if len(self._passed) >= KINDS:
                self._passed.clear()
            self._passed.add(like)

    def fits(self, *args: Any, **kwargs: Any) -> bool:
        """Whether a call meets the guards; nothing is computed."""
        try:
            self._check_mode()
            self._check_inputs(self._inputs.flatten(args, kwargs))
        except GuardError:
            return False
        return True

    def forget_calls(self) -> None:
        """The next call is the first again, for what is checked on the first."""
        self._asked.clear()

    def run_flat(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The rewritten graph alone, from its own tensors to its own, with what was declared asserted: for torch.export."""
        for assumed in self.assumed:
            if assumed.check != "never":
                torch._assert_async(
                    assumed.same(tensors[assumed.position]),
                    f"'{assumed.name}' has other values in some slice along {assumed.where} than in slice 0",
                )
        return self._functional(self, *tensors)

    def leave_axes_outside(self, example: Sequence[torch.Tensor]) -> None:
        """Make the graph one without any tensor of rank above four.

        Raises:
            RefusedError: with the reasons why it is not possible; nothing has changed.
        """
        names = [g.name for g in self.guards.inputs]
        self.graph, self.boundary = lowered(self.graph, dict(self._state()), example, names)
        self._compile()

    def _state(self) -> itertools.chain[tuple[str, torch.Tensor]]:
        return itertools.chain(self.named_parameters(), self.named_buffers())

    def _check_mode(self) -> None:
        if self.training != self._captured_mode and self._other_mode:
            was, now = ("train", "eval") if self._captured_mode else ("eval", "train")
            some = ", ".join(f"'{p}'" if p else "the model itself" for p in self._other_mode[:3])
            more = f" and {len(self._other_mode) - 3} more" if len(self._other_mode) > 3 else ""
            raise GuardError(
                f"the model was folded in {was} mode and is called in {now} mode, in which {some}{more} may do something "
                f"else: call .{was}() on it, or put the original into {now} mode and fold again"
            )

    def _check_places(self, tensors: Sequence[torch.Tensor]) -> None:
        if any(t.device != d for t, d in zip(tensors, self._devices, strict=True)):
            self._settle()
        for guard, tensor, device in zip(self.guards.inputs, tensors, self._devices, strict=True):
            if tensor.device != device:
                raise GuardError(
                    f"'{guard.name}' is on {tensor.device}, and the folded model takes it on {device}: move the input there, "
                    f"or move the model with .to('{tensor.device}')"
                )

    def _apply(self, fn: Any, recurse: bool = True) -> Folded:
        made: Folded = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._moved = True
        return made

    def _settle(self) -> None:
        """After ``.to(…)``: the graph follows to another device; another type is another model.

        Raises:
            GuardError: the weights have another type than when the model was folded, or lie in several places.
        """
        self._passed = set()
        places: dict[torch.device, str] = {}
        for name, tensor in self._state():
            if tensor.dtype != self._dtypes.get(name, tensor.dtype):
                raise GuardError(
                    f"the weight '{name}' is {tensor.dtype} and was {self._dtypes[name]} when the model was folded: "
                    "convert the original and fold again"
                )
            places.setdefault(tensor.device, name)
        if self._home is not None and places and set(places) != {self._home}:
            if len(places) > 1:
                where = ", ".join(f"'{name}' on {device}" for device, name in places.items())
                raise GuardError(f"the weights of the folded model lie on several devices: {where}; move all to one")
            self._move_graph(self._home, next(iter(places)))
        self._moved = False

    def _move_graph(self, old: torch.device, new: torch.device) -> None:
        """Tensors that the graphs themselves make (zeros, say) are made on the new device."""
        self.graph = _on_device(self.graph, old, new)
        self._full = None if self._full is None else _on_device(self._full, old, new)
        self._home = new
        self._devices = (new,) * len(self._devices)
        self._compile()

    @property
    def code(self) -> str:
        """The new graph as Python."""
        return self._source

    def save(self, path: Any, *, force: bool = False) -> None:
        """Write a ``.pt2`` file that ``torch.export.load`` reads; it takes the tensor inputs in order.

        Raises:
            InputError: it cannot be written, or the model has a second form (``repeated(otherwise="full")``), for which a
                program has no room: fold it with ``otherwise="refuse"``, and the program asserts what was declared.
        """
        from flatconv.files import save_program

        save_program(self, path, force=force)

    def export(
        self, path: Any, *, force: bool = False, names: tuple[Sequence[str], Sequence[str]] | None = None
    ) -> Exported:
        """Write an ``.onnx`` or ``.pt2`` file, after it was run and compared with this model.

        It takes the tensor inputs in order, with the sizes free that are free here; with ``rank4=True`` they have no more
        than four axes, and neither has anything in it. ONNX has no way to check what this model checks of its inputs beside
        their sizes: the conditions stand in the file's metadata.

        Args:
            path: of the file.
            force: replace a file that is there.
            names: of the inputs and of the outputs in an ONNX file, one for each tensor in order; left out, those of the
                call, and output_0 and so on.

        Returns:
            The runtimes in which it was run, and the largest difference in each.

        Raises:
            InputError: the path ends in something else, the file cannot be written, or the names do not fit.
            MissingExtraError: a package for ONNX is not installed.
            RefusedError: the model cannot be written in this format.
            VerificationError: what a runtime computes from the file is not what this model computes; nothing is written.
        """
        from flatconv.deploy import export

        return export(self, path, force=force, names=names)

    def save_weights(self, path: Any, *, force: bool = False) -> None:
        """Write the weights as ``.safetensors``: the original names, with lower rank where axes were dropped."""
        from flatconv.files import save_weights

        save_weights(self, path, force=force)

    def _compile(self) -> None:
        self._source, self._functional, self._run = self._ways(self.graph, f"<flatconv {id(self):x}>")
        self._functional_full = self._run_full = None
        if self._full is not None:
            _, self._functional_full, self._run_full = self._ways(self._full, f"<flatconv {id(self):x} full>")

    def _ways(self, graph: fx.Graph, name: str) -> tuple[str, Run, Run]:
        """The Python of a graph, the function that it is, and the one that writes in place."""
        source, functional = self._compiled(graph, name)
        written = in_place(graph)
        return (
            source,
            functional,
            functional if written is graph else self._compiled(written, f"{name[:-1]} in place>")[1],
        )

    def _compiled(self, graph: fx.Graph, name: str) -> tuple[str, Run]:
        """The Python of a graph, and the function that it is."""
        nodes = [n for n in graph.nodes if n.op == "get_attr"]
        names = [str(n.target) for n in nodes]
        try:
            for i, node in enumerate(nodes):
                node.target = f"{READ}{i}_"
            python = graph.python_code("self")
        finally:
            for node, target in zip(nodes, names, strict=True):
                node.target = target
        # fx would write the names of weights as they are. They come from the model and may be anything.
        source = re.sub(rf"\bself\.{READ}(\d+)_", lambda m: read(self, self._place(names[int(m[1])])), python.src)
        # Kept where Python looks for source lines, so that tracebacks and torch.compile can show them.
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        weakref.finalize(self, linecache.cache.pop, name, None)
        scope = dict(python.globals)
        exec(compile(source, name, "exec"), scope)
        return source, scope["forward"]

    def _place(self, name: str) -> str:
        return f"{LITERALS}.{name}" if name in self._literals else name

    def __setattr__(self, name: str, value: Any) -> None:
        # A child may have any name, such as 'graph' or 'report': these stay apart from the children.
        if name in OWN:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Folded:
        made = Folded.__new__(Folded)
        memo[id(self)] = made
        nn.Module.__init__(made)
        # Code, guards and report never change; the weights do.
        copied = ("_parameters", "_buffers", "_modules")
        made.__dict__.update({k: copy.deepcopy(v, memo) if k in copied else v for k, v in self.__dict__.items()})
        made._asked, made._passed = set(self._asked), set()
        # The copy has weights of its own, and does not follow the original any more.
        made._structure = None
        return made

    def __copy__(self) -> Folded:
        made = Folded.__new__(Folded)
        made.__dict__.update(self.__dict__)
        made._passed = set()
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "a folded model cannot be pickled: write it with .save('model.pt2') or .save_weights('w.safetensors')"
        )


def _lends(graph: fx.Graph, captured: Capture) -> bool:
    """Whether it matters that inputs are contiguous, as those of the example are."""
    results: Any = graph.output_node().args[0]
    lends = any(isinstance(r, fx.Node) and owner(r).op == "placeholder" for r in results)
    return all(t.is_contiguous() for t in captured.example) and (lends or any(a in LAYOUT for a in captured.layouts))


def _on_device(graph: fx.Graph, old: torch.device, new: torch.device) -> fx.Graph:
    """A copy of a graph with another device in the place of one."""
    graph = copy.deepcopy(graph)

    def moved(value: Any) -> Any:
        return new if isinstance(value, torch.device) and value == old else value

    for node in graph.nodes:
        node.args = fx.node.map_aggregate(node.args, moved)
        node.kwargs = fx.node.map_aggregate(node.kwargs, moved)
    return graph
