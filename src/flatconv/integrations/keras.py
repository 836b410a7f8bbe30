"""Keras 3 on PyTorch: models of channels-last volumes, folded for single slices.

    from flatconv.integrations.keras import fold

    flat = fold(model)                          # sizes from model.inputs, batch free
    flat = fold(model, (1, 128, 128, 3))        # where the model leaves some open
    y = flat(x)                                 # as model(x)

With ``KERAS_BACKEND=torch`` a ``keras.Model`` is a module, so this is ``flatconv.fold`` on an example made from the model's own
inputs, in the mode of ``model.predict``. ``keras.layers.TorchModuleWrapper(flat)`` is a layer again, to build a model of.

``flatconv.patch`` refuses Keras models, so ``model(x)`` and ``model.predict(x)`` do not take the fold. Keras keeps a model's
layers in lists of its own and not as registered submodules, so a patch could not notice when a layer is changed or replaced.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from flatconv.errors import InputError, MissingExtraError
from flatconv.fold import fold as fold_module
from flatconv.module import Folded

Sizes = Sequence[int]


def fold(model: nn.Module, sizes: Sizes | Mapping[str, Sizes] | None = None, *, batch: int = 1, **how: Any) -> Folded:
    """Fold a Keras model as ``model.predict`` runs it, for inputs of the sizes that it names.

    Of channels-last models the batch stays free, and no other size can be counted on; of channels-first ones height and
    width too, where the model allows it.

    Args:
        model: a functional or sequential ``keras.Model`` that is built, on the torch backend.
        sizes: without the batch, as ``keras.Input`` takes them: (1, 128, 128, 3). Needed where the model leaves some open
            (None). By name of the input where there are several: ``{"scan": (1, 128, 128, 3)}``.
        batch: of the example on which forms are timed; others are taken too, where the model allows it.
        how: for ``flatconv.fold``. ``weights="shared"`` follows the model as it learns; a model with random layers (Dropout)
            is refused then.

    Returns:
        The folded model. It is called as the model is, with tensors: ``flat(x)``, or ``flat([x, y])`` and ``flat({"scan": x})``
        where the model was built with a list or a dict of inputs.

    Raises:
        MissingExtraError: Keras is not installed.
        InputError: it is no such model, Keras runs on another backend, or a size is missing or another one than the model's.
        RefusedError: the model cannot be captured or rewritten.
        VerificationError: the folded model differs from the original.
    """
    try:
        import keras
    except ImportError as e:
        raise MissingExtraError("keras", "keras", "flatconv.integrations.keras") from e
    if keras.backend.backend() != "torch":
        raise InputError(
            f"Keras runs on {keras.backend.backend()} here, and torch is needed: set KERAS_BACKEND=torch before keras is "
            "imported"
        )
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise InputError(
            f"{type(model).__name__} is no functional or sequential keras.Model that was built, so its inputs are not known: "
            "build it, or call flatconv.fold with an example call"
        )
    if not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch is {batch!r}: the number of volumes in the example is needed, 1 or more")
    wanted = _wanted(model, sizes)
    like = next(model.parameters(), torch.empty(0))
    noise = torch.Generator().manual_seed(0)

    def example(spec: Any) -> torch.Tensor:
        dtype, shape = getattr(torch, spec.dtype, None), (batch, *wanted[spec.name])
        if dtype is None:
            raise InputError(
                f"input '{spec.name}' is of type {spec.dtype}, which torch does not have: fold the part after it"
            )
        # Whole numbers may stand for places in a table or for switches, and most of these have a 0 and a 1.
        drawn = (
            torch.randn(shape, generator=noise)
            if dtype.is_floating_point
            else torch.randint(0, 2, shape, generator=noise)
        )
        return drawn.to(like.device, dtype)

    form = getattr(model, "input", model.inputs)
    if isinstance(form, list | tuple) and len(form) == 1:
        form = form[0]  # Keras takes it without the list
    whole = KerasModel(model)
    modes = {module: module.training for module in whole.modules()}
    whole.eval()
    try:
        return fold_module(whole, (keras.tree.map_structure(example, form),), **how)
    finally:
        for module, mode in modes.items():
            module.training = mode


class KerasModel(nn.Module):
    """A call of a Keras model as ``predict`` makes it, with its layers as submodules, which gives the sites their names.

    Args:
        model: functional or sequential.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.layers = nn.Module()
        for layer in model.layers:
            # Random layers hold a whole Python module there (Keras' backend), which nothing should follow.
            if getattr(layer, "seed_generator", None) is not None:
                continue
            name = layer.name.replace(".", "_")
            self.layers.add_module(f"{name}_" if hasattr(self.layers, name) else name, layer)
        self.model = model
        # Keras tells layers of the mode by this argument, and modules of torch in the model by it too.
        takes = inspect.signature(model.call).parameters
        self.mode = {"training": False} if "training" in takes else {}

    def forward(self, inputs: Any) -> Any:
        """The model on its inputs, in whatever form it takes them."""
        return self.model(inputs, **self.mode)


def _wanted(model: Any, given: Sizes | Mapping[str, Sizes] | None) -> dict[str, tuple[int, ...]]:
    """Sizes without the batch by name of the input.

    Raises:
        InputError: they do not fit what the model says, or one is missing.
    """
    specs = {spec.name: tuple(spec.shape[1:]) for spec in model.inputs}
    shown = ", ".join(f"{name} {shape}" for name, shape in specs.items())
    if given is not None and not isinstance(given, Mapping):
        if len(specs) > 1:
            raise InputError(f"sizes are {given!r} for {len(specs)} inputs: name the input, one of {shown}")
        given = {next(iter(specs)): given}
    given = {} if given is None else given
    if unknown := set(given) - set(specs):
        raise InputError(
            f"sizes name {', '.join(map(repr, sorted(unknown, key=repr)))}; the inputs of the model are {shown}"
        )
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in specs.items():
        sizes = given.get(name, shape)
        found[name] = sizes = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,)
        fits = len(sizes) == len(shape) and all(s in (None, v) for v, s in zip(sizes, shape, strict=True))
        if not fits or not all(isinstance(v, int) and v > 0 for v in sizes):
            raise InputError(
                f"the sizes of input '{name}' are {sizes}; without the batch the model says {shape}: pass sizes with a number "
                "above zero for each None, and the model's own for the others"
            )
    return found
