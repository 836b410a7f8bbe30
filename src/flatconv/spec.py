"""What the command line names: models by SPEC, inputs by sizes or a picture."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flatconv.errors import FlatconvError, InputError, MissingExtraError, RefusedError

MAX_ELEMENTS = 2**31


def load_model(spec: str) -> nn.Module:
    """Build the model that a SPEC names: ``package.module:factory`` or ``path/to/file.py:factory``, in eval mode.

    The factory is called without arguments and returns a module. It is Python code and is run.

    Raises:
        InputError: there is no such module, file or factory, it fails, or what it returns is no module.
    """
    place, colon, factory = spec.rpartition(":")
    if not colon or not place or not factory:
        _explain_file(spec)
        raise InputError(f"'{spec}' names no model: write package.module:factory or path/to/file.py:factory")
    if place in ("diffusers", "transformers"):
        raise InputError(f"'{place}:FOLDER' is not supported yet: write a factory that loads the folder and name that")
    module = _from_file(place) if place.endswith(".py") or "/" in place or os.sep in place else _from_package(place)
    found = getattr(module, factory, None)
    if found is None:
        has = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputError(f"'{place}' has no '{factory}'; it has {', '.join(has[:12]) or 'nothing that can be called'}")
    try:
        model = found if isinstance(found, nn.Module) else found()
    except FlatconvError:
        raise
    except Exception as e:
        raise InputError(f"'{spec}' failed while it built the model: {type(e).__name__}: {_line(e)}") from e
    if isinstance(model, torch.jit.ScriptModule):
        raise RefusedError(
            f"'{spec}' made a TorchScript module, whose code torch.export cannot read: build the model from its Python source"
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"'{spec}' made a {type(model).__name__}, and a torch.nn.Module is needed")
    return model.eval()


def _explain_file(spec: str) -> None:
    path = Path(spec)
    if path.suffix == ".py" and path.exists():
        raise InputError(f"'{spec}' is a file: name the function in it that builds the model, {spec}:factory")
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pt2", ".onnx", ".safetensors"):
        state = "is not loaded by flatconv" if path.exists() else "does not exist"
        raise InputError(
            f"'{spec}' {state}; a file of weights is not a model, and a pickle can run any code: "
            "name a factory that builds the model and loads the weights, package.module:factory"
        )
    if path.exists():
        raise InputError(
            f"'{spec}' is no model that flatconv can read: write package.module:factory or path/to/file.py:factory"
        )


def _from_package(name: str) -> Any:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as python -m does, so that a module beside the user is found
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
    except Exception as e:
        raise InputError(f"'{name}' failed while it was imported: {type(e).__name__}: {_line(e)}") from e


def _from_file(place: str) -> Any:
    path = Path(place)
    if not path.is_file():
        raise InputError(f"there is no file '{place}'")
    name = re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(f"flatconv_user_{name}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"'{place}' is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise InputError(f"'{place}' failed while it was run: {type(e).__name__}: {_line(e)}") from e
    return module


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else "no message"


def parse_input(text: str, generator: torch.Generator) -> tuple[str | None, torch.Tensor]:
    """Random values for ``[name=]1x3x1x256x256[:dtype]``.

    Raises:
        InputError: the text is not of that form.
    """
    form = re.fullmatch(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<sizes>\d+(?:[x×*]\d+)*)(?::(?P<dtype>\w+))?", text.strip())
    if form is None:
        raise InputError(f"--input '{text}' is no size: write it as 1x3x1x256x256, name=1x3x1x256x256 or 1x77:int64")
    sizes = [int(s) for s in re.split(r"[x×*]", form["sizes"])]
    elements = 1
    for s in sizes:
        elements *= s
    if elements > MAX_ELEMENTS:
        raise InputError(
            f"--input '{text}' has {elements:,} elements, more than the {MAX_ELEMENTS:,} that are supported"
        )
    dtype = getattr(torch, form["dtype"] or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(
            f"--input '{text}': torch has no dtype '{form['dtype']}'; float32, float16, bfloat16 and int64 are usual"
        )
    if dtype.is_floating_point:
        return form["name"], torch.randn(sizes, generator=generator).to(dtype)
    return form["name"], torch.zeros(sizes, dtype=dtype)


def read_image(path: str) -> torch.Tensor:
    """A picture as (1, 3, 1, height, width) in [−1, 1].

    Raises:
        InputError: there is no such file, or it is no picture.
        MissingExtraError: pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as e:
        raise MissingExtraError("pillow", "images", "--image") from e
    import numpy as np

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    except FileNotFoundError as e:
        raise InputError(f"there is no file '{path}'") from e
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as e:
        raise InputError(f"'{path}' cannot be read as a picture: {_line(e)}") from e
    return torch.from_numpy(pixels).permute(2, 0, 1)[None, :, None] / 127.5 - 1


def as_picture(value: Any) -> Any:
    """A result as an RGB picture, if it is one: (1, 3, [1,] height, width) in [−1, 1]. None otherwise."""
    from PIL import Image

    if not isinstance(value, torch.Tensor) or value.dim() not in (4, 5) or value.shape[:2] != (1, 3):
        return None
    if value.dim() == 5:
        if value.shape[2] != 1:
            return None
        value = value[:, :, 0]
    pixels = ((value[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
