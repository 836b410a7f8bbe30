"""What a fold must be beside computing the right values: its own memory, exact weights, and guards that hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch

from flatconv.capture import Capture
from flatconv.errors import GuardError, VerificationError
from flatconv.lower import Lowered
from flatconv.module import Folded


def check_state(
    captured: Capture, lowered: Lowered, flat: Folded, wide: Mapping[str, torch.Tensor], shared: bool
) -> None:
    """Hold the weights of a fold against the original's.

    Folded weights are what they are in float64, rounded once, in memory of their own. Shared ones are the original's.

    Args:
        captured: the original.
        lowered: says what each weight is made from.
        flat: the fold.
        wide: every weight of the fold in float64.
        shared: whether the weights are shared.

    Raises:
        VerificationError: naming the weight.
    """
    state = dict(_tensors(flat))
    if shared:
        for name, tensor in _tensors(captured.model):
            if state.get(name) is not tensor:
                raise VerificationError(f"'{name}' of the fold is not the original's own, though weights are shared")
        return
    places = {_place(t) for _, t in _tensors(captured.model)} - {0}
    for constant in lowered.constants.values():
        held = state[constant.name]
        if _place(held) in places:
            raise VerificationError(f"'{constant.name}' of the fold lies in memory of the original")
        # A weight that is computed (weight norm, say) is rounded on the way, so it is judged by the results alone.
        if all(s in captured.program.weights for s in constant.sources):
            wanted = wide[constant.name].to(held.dtype)
            if not bool(((held == wanted) | (held.isnan() & wanted.isnan())).all()):
                raise VerificationError(
                    f"'{constant.name}' of the fold is not the original's weight, reduced in float64 and rounded once"
                )


def check_results(
    captured: Capture, flat: Folded, original: Sequence[torch.Tensor], own: Sequence[torch.Tensor]
) -> None:
    """A result may lie in the memory of a weight only where the original's does.

    Raises:
        VerificationError: naming the result.
    """
    places = {_place(t) for _, t in itertools.chain(_tensors(flat), _tensors(captured.model))} - {0}
    for i, (a, b) in enumerate(zip(original, own, strict=True)):
        if _place(b) in places and _place(a) not in places:
            raise VerificationError(
                f"output {i} of the fold lies in the memory of a weight: a change of it would be lasting"
            )


def check_refusals(captured: Capture, flat: Folded) -> None:
    """The fold must refuse what it was not folded for: another size of a fixed axis, another type, another rank.

    Raises:
        VerificationError: it took such a call.
    """
    example = captured.example
    for i, (guard, tensor) in enumerate(zip(captured.guards.inputs, example, strict=True)):
        fixed = [a for a, s in enumerate(guard.shape) if s is not None]
        wrong = [tensor.new_zeros([s + (a == axis) for a, s in enumerate(tensor.shape)]) for axis in fixed]
        wrong += [tensor[None], tensor.to(torch.float64 if tensor.dtype != torch.float64 else torch.float32)]
        for other in wrong:
            given = [other if j == i else t for j, t in enumerate(example)]
            args, kwargs = captured.inputs.arguments(given)
            try:
                flat(*args, **kwargs)
            except GuardError:
                continue
            except Exception as e:
                raise VerificationError(
                    f"'{guard.name}' of shape {tuple(other.shape)} and type {other.dtype} passed the guards of the fold, "
                    f"which then failed: {type(e).__name__}"
                ) from e
            raise VerificationError(
                f"the fold took '{guard.name}' of shape {tuple(other.shape)} and type {other.dtype}, which it is not for"
            )


def _tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
