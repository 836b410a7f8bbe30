"""Models in local folders, as diffusers and transformers write them: ``config.json`` and weights in safetensors."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flatconv.errors import FlatconvError, InputError, MissingExtraError, first_line

LIBRARIES = ("diffusers", "transformers")
CONFIG = "config.json"
LARGEST = 10 * 2**20


def load(library: str, place: str) -> nn.Module:
    """The model in a folder, in float32 and eval mode; nothing is downloaded and no code in the folder is run.

    Args:
        library: "diffusers" or "transformers".
        place: the folder, and after a ``#`` the submodule that is meant: ``folder#visual.patch_embed``.

    Raises:
        MissingExtraError: the library is not installed.
        InputError: there is no such folder, it is of another kind, or its weights do not fit.
    """
    folder, _, path = place.partition("#")
    config = _config(library, Path(folder))
    try:
        module = importlib.import_module(library)
    except ImportError as e:
        raise MissingExtraError(library, library, f"{library}:{folder}") from e
    named = _diffusers if library == "diffusers" else _transformers
    kind = named(module, config, folder)
    try:
        model = kind(folder, local_files_only=True, use_safetensors=True)
    except Exception as e:
        raise InputError(f"'{folder}' cannot be loaded by {library}: {type(e).__name__}: {first_line(e)}") from e
    if not isinstance(model, nn.Module):
        raise InputError(f"'{folder}' holds a {type(model).__name__}, and a torch.nn.Module is needed")
    return part(model.to(torch.float32).eval(), path, folder)


def part(model: nn.Module, path: str, where: str) -> nn.Module:
    """A submodule by its path; the model itself for an empty one.

    Raises:
        InputError: there is none.
    """
    try:
        return model.get_submodule(path)
    except AttributeError as e:
        begun = path
        while begun and not _has(model, begun):
            begun = begun.rpartition(".")[0]
        inside = ", ".join(name for name, _ in model.get_submodule(begun).named_children())
        raise InputError(
            f"'{where}' has no module '{path}'; in {f'{begun!r}' if begun else 'the model'} there are {inside or 'none'}"
        ) from e


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _config(library: str, folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        if not folder.is_dir():
            raise InputError(f"'{folder}' is no folder: {library}:FOLDER names one that {library} has written")
        if not file.is_file():
            inner = sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}"))
            hint = f"; name one of the models in it, such as {library}:{folder / inner[0]}" if inner else ""
            raise InputError(f"'{folder}' has no {CONFIG}{hint}")
        if file.stat().st_size > LARGEST:
            raise InputError(f"'{file}' has {file.stat().st_size} bytes, too many for a configuration")
        found = json.loads(file.read_text(encoding="utf-8"))
    except FlatconvError:
        raise
    except (OSError, ValueError, RecursionError) as e:
        raise InputError(f"'{file}' cannot be read as JSON: {type(e).__name__}: {first_line(e)}") from e
    if not isinstance(found, dict):
        raise InputError(f"'{file}' holds a {type(found).__name__} and no configuration")
    return found


def _diffusers(module: Any, config: dict[str, Any], folder: str) -> Callable[..., Any]:
    name = config.get("_class_name")
    kind = getattr(module, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and hasattr(kind, "from_pretrained")):
        raise InputError(
            f"'{folder}/{CONFIG}' names the class {name!r}, which diffusers {module.__version__} does not have as a model"
        )
    loader: Callable[..., Any] = kind.from_pretrained
    return loader


def _transformers(module: Any, config: dict[str, Any], folder: str) -> Callable[..., Any]:
    if "model_type" not in config:
        raise InputError(f"'{folder}/{CONFIG}' has no model_type: it is not of transformers")
    if "auto_map" in config:
        raise InputError(
            f"'{folder}' brings code of its own (auto_map), which is not run: write a factory that loads it and name that"
        )
    # The class that was saved knows its own weights' names; AutoModel would load it without its head.
    names = config.get("architectures")
    named: Any = (
        getattr(module, names[0], None) if isinstance(names, list) and names and isinstance(names[0], str) else None
    )
    usable = isinstance(named, type) and issubclass(named, nn.Module) and hasattr(named, "from_pretrained")
    found: Callable[..., Any] = named.from_pretrained if usable else module.AutoModel.from_pretrained
    return found
