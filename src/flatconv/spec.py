"""What the command line names: models by SPEC, and weights by file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flatconv.archives import check_archive, check_safetensors, open_regular
from flatconv.errors import FlatconvError, InputError, RefusedError, first_line
from flatconv.exporting import quiet
from flatconv.onnx_in import load as load_onnx

PROGRAM = ".pt2"
ONNX = ".onnx"
PICKLES = (".pt", ".pth")
STATES = (".pt", ".pth", ".bin", ".ckpt")
OTHERS = (".bin", ".ckpt", ".safetensors")


def load_model(spec: str, trust: bool = False, state: str | None = None) -> nn.Module:
    """Build the model that a SPEC names, in eval mode.

    ``diffusers:FOLDER`` and ``transformers:FOLDER``: a local folder that the library has written, with safetensors; a ``#`` and
    a path after it mean a submodule. ``package.module:factory`` or ``path/to/file.py:factory``: the factory is called without
    arguments and returns a module. It is Python code and is run. ``model.onnx``: a file of ONNX, which runs no code.
    ``model.pt2``: an exported program. ``model.pt``: a module
    written by torch.save. Both kinds of file can hold code that runs while they are opened, so they are opened only if
    ``trust`` is set.

    Args:
        spec: as above.
        trust: open files that can run code.
        state: a file of weights for the model: ``.safetensors``, or ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` with ``trust``.

    Raises:
        InputError: there is no such module, file or factory, it fails, or what it makes is no module; or the weights do
            not fit.
        RefusedError: it is TorchScript.
    """
    path = Path(spec)
    if path.suffix == PROGRAM or path.suffix in PICKLES:
        model = _from_archive(path, trust)
    elif path.suffix == ONNX:
        model = load_onnx(path)
    else:
        model = _from_code(spec)
    if state is not None:
        load_state(model, state, trust)
    return model


def _from_code(spec: str) -> nn.Module:
    library, _, folder = spec.partition(":")
    if library in ("diffusers", "transformers") and folder:
        from flatconv.integrations.folders import load

        return load(library, folder)
    place, colon, factory = spec.rpartition(":")
    if not colon or not place or not factory:
        _explain_file(spec)
        raise InputError(f"'{spec}' names no model: write package.module:factory or path/to/file.py:factory")
    module = _from_file(place) if place.endswith(".py") or "/" in place or os.sep in place else _from_package(place)
    try:
        found = getattr(module, factory, None)
        if found is None:
            has = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise InputError(
                f"'{place}' has no '{factory}'; it has {', '.join(has[:12]) or 'nothing that can be called'}"
            )
        model = found if isinstance(found, nn.Module) else found()
        return _in_eval_mode(model, spec)
    except FlatconvError:
        raise
    except (Exception, SystemExit) as e:
        raise InputError(f"'{spec}' failed while it built the model: {type(e).__name__}: {first_line(e)}") from e


def _in_eval_mode(model: Any, spec: str) -> nn.Module:
    if isinstance(model, torch.jit.ScriptModule):
        raise RefusedError(
            f"'{spec}' made a TorchScript module, whose code torch.export cannot read: build the model from its Python source"
        )
    if not isinstance(model, nn.Module):
        weights = "; a file of weights is given as --state FILE, beside a factory" if isinstance(model, Mapping) else ""
        raise InputError(f"'{spec}' made a {type(model).__name__}, and a torch.nn.Module is needed{weights}")
    return model.eval()


def _from_archive(path: Path, trust: bool) -> nn.Module:
    """A model out of a file that is one."""
    exported = path.suffix == PROGRAM
    what = "torch.export.load unpickles parts of it" if exported else "torch.load unpickles it"
    with open_regular(path) as file:
        if not trust:
            raise InputError(
                f"'{path}' is not opened: {what}, and a pickle can run any code as you. If you made the file, or trust "
                "whoever did, say --trust; otherwise name a factory that builds the model, package.module:factory, "
                "and give the weights as --state FILE.safetensors"
            )
        names = check_archive(file, str(path))
        program = any(n.startswith("models/") or "exported_program" in n for n in names)
        if program is not exported or not (program or "data.pkl" in names):
            holds = (
                "an exported program: name it .pt2" if program else "no exported program" if exported else "no pickle"
            )
            raise InputError(f"'{path}' holds {holds}")
        file.seek(0)
        _find_modules_here()
        try:
            with warnings.catch_warnings(), quiet():
                warnings.simplefilter("ignore")
                if not exported:
                    return _in_eval_mode(torch.load(file, map_location="cpu", weights_only=False), str(path))
                model = torch.export.load(file).module()
        except FlatconvError:
            raise
        except (Exception, SystemExit) as e:
            raise InputError(f"'{path}' cannot be loaded: {type(e).__name__}: {first_line(e)}") from e
    # The mode is part of an exported program: it has no other, and refuses eval(). Only the flags are set.
    for module in model.modules():
        module.__dict__["training"] = False
    return model


def load_state(model: nn.Module, path: str, trust: bool = False) -> None:
    """Put the weights in a file into a model. Every name must be in both, with the same shape.

    Raises:
        InputError: the file is not to be opened, is damaged, or does not fit the model.
    """
    suffix = Path(path).suffix
    if suffix != ".safetensors" and suffix not in STATES:
        raise InputError(
            f"--state '{path}': weights are read from .safetensors, or with --trust from {', '.join(STATES)}"
        )
    with open_regular(path) as file:
        if suffix == ".safetensors":
            check_safetensors(file, path)
        elif not trust:
            raise InputError(
                f"'{path}' is not opened: it is a pickle, which can run any code as you. Convert it to .safetensors where "
                "you trust it, or say --trust if you made it, or trust whoever did"
            )
        else:
            check_archive(file, path)
            file.seek(0)
        try:
            state = _read_state(file, path)
        except Exception as e:
            raise InputError(f"'{path}' cannot be loaded: {type(e).__name__}: {first_line(e)}") from e
    _check_state(model, state, path)
    try:
        # Weights that are on no device yet are taken as they are; all others are copied into.
        meta = any(t.is_meta for t in model.state_dict().values() if isinstance(t, torch.Tensor))
        model.load_state_dict(state, strict=False, assign=meta)
    except Exception as e:
        raise InputError(f"the model does not take the weights in '{path}': {type(e).__name__}: {first_line(e)}") from e


def _read_state(file: Any, path: str) -> Any:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(file, map_location="cpu", weights_only=True)
    inner = state.get("state_dict") if isinstance(state, Mapping) else None
    return inner if isinstance(inner, Mapping) else state


def _check_state(model: nn.Module, state: Any, path: str) -> None:
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise InputError(f"'{path}' holds a {type(state).__name__} and not tensors by name: save model.state_dict()")
    own = model.state_dict(keep_vars=True)
    given = {id(own[n]) for n in state if n in own}
    # A weight under two names is often written once.
    missing = [n for n, t in own.items() if n not in state and id(t) not in given]
    unexpected = [n for n in state if n not in own]
    unlike = [n for n, t in own.items() if n in state and not _alike(t, state[n])]
    wrong = []
    if missing:
        wrong.append(f"{len(missing)} missing ({_few(missing)})")
    if unexpected:
        wrong.append(f"{len(unexpected)} that the model does not have ({_few(unexpected)})")
    if unlike:
        told = _few(f"{n} is {_form(state[n])}, not {_form(own[n])}" for n in unlike)
        wrong.append(f"{len(unlike)} of another shape or kind ({told})")
    if wrong:
        raise InputError(
            f"the weights in '{path}' do not fit {type(model).__name__}, which has {len(own)}: {'; '.join(wrong)}"
        )


def _alike(own: Any, given: torch.Tensor) -> bool:
    if not isinstance(own, torch.Tensor) or given.layout != torch.strided or given.is_quantized:
        return False
    if nn.parameter.is_lazy(own):
        return True
    kinds = [(t.is_floating_point(), t.is_complex()) for t in (own, given)]
    return own.shape == given.shape and kinds[0] == kinds[1]


def _form(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {'×'.join(map(str, value.shape)) or 'of one number'}"


def _few(names: Iterable[str], count: int = 5) -> str:
    listed = [n if len(n) <= 120 else f"{n[:60]}…{n[-59:]}" for n in names]
    return ", ".join(listed[:count]) + (", …" if len(listed) > count else "")


def _explain_file(spec: str) -> None:
    path = Path(spec)
    try:
        there = bool(spec) and path.exists()
    except (OSError, ValueError):
        there = False
    if path.suffix == ".py" and there:
        raise InputError(f"'{spec}' is a file: name the function in it that builds the model, {spec}:factory")
    if path.suffix in OTHERS:
        raise InputError(
            f"'{spec}' {'holds weights and no model' if there else 'does not exist'}: name a factory that builds the model, "
            "package.module:factory, and give the weights as --state FILE.safetensors"
        )
    if there:
        raise InputError(
            f"'{spec}' is no model that flatconv can read: write package.module:factory or path/to/file.py:factory"
        )


def _find_modules_here() -> None:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as python -m does, so that a module beside the user is found


def _from_package(name: str) -> Any:
    _find_modules_here()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name and (name == e.name or name.startswith(f"{e.name}.")):
            raise InputError(
                f"there is no module '{name}' here: check the spelling, or install the package that has it"
            ) from e
        raise InputError(f"'{name}' needs the package '{e.name}', which is not installed") from e
    except FlatconvError:
        raise
    except (Exception, SystemExit) as e:
        raise InputError(f"'{name}' failed while it was imported: {type(e).__name__}: {first_line(e)}") from e


def _from_file(place: str) -> Any:
    path = Path(place)
    open_regular(path).close()
    name = re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(f"flatconv_user_{name}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"'{place}' is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except FlatconvError:
        raise
    except (Exception, SystemExit) as e:
        raise InputError(f"'{place}' failed while it was run: {type(e).__name__}: {first_line(e)}") from e
    return module
