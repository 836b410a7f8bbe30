"""The example call on the command line: tensors by their sizes, or a picture, and a result as a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch

from flatconv.errors import InputError, first_line
from flatconv.stack.sources.pictures import read_picture

MAX_ELEMENTS = 2**31


def parse_input(text: str, generator: torch.Generator) -> tuple[str | None, torch.Tensor]:
    """Random values for ``[name=]1x3x1x256x256[:dtype]``.

    Raises:
        InputError: the text is not of that form, or asks for too much.
    """
    name, sizes, dtype = read_sizes(text)
    try:
        if dtype.is_floating_point:
            return name, torch.randn(sizes, generator=generator).to(dtype)
        return name, torch.zeros(sizes, dtype=dtype)
    except (RuntimeError, TypeError) as e:
        raise InputError(f"--input '{_brief(text)}' cannot be made: {first_line(e)}") from e


def read_sizes(text: str) -> tuple[str | None, list[int], torch.dtype]:
    """Name, sizes and type out of ``[name=]1x3x1x256x256[:dtype]``.

    Raises:
        InputError: the text is not of that form, or has too many elements.
    """
    form = re.fullmatch(
        r"(?:(?P<name>[^\W\d]\w*)=)?(?P<sizes>[0-9]{1,12}(?:[x×*][0-9]{1,12})*)(?::(?P<dtype>\w+))?", text.strip()
    )
    if form is None:
        raise InputError(
            f"--input '{_brief(text)}' is no size: write it as 1x3x1x256x256, name=1x3x1x256x256 or 1x77:int64"
        )
    sizes = [int(s) for s in re.split(r"[x×*]", form["sizes"])]
    elements = math.prod(sizes)
    if elements >= MAX_ELEMENTS or len(sizes) > 16:
        raise InputError(
            f"--input '{_brief(text)}' has {elements:,} elements on {len(sizes)} axes; less than {MAX_ELEMENTS:,} on at "
            "most 16 are supported: use a smaller example, sizes may change later"
        )
    dtype = getattr(torch, form["dtype"] or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(
            f"--input '{_brief(text)}': torch has no dtype '{form['dtype']}'; float32, float16, bfloat16 and int64 are usual"
        )
    return form["name"], sizes, dtype


def read_inputs(texts: Iterable[str], image: str | None) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The example call: a picture first, then sizes in order; those with a name by name.

    Raises:
        InputError: there is none, one cannot be made, a name is given twice, or all together are too much.
    """
    texts = list(texts)
    if not texts and image is None:
        raise InputError("an example input is needed: --input 1x3x1x256x256, or --image FILE")
    read = [read_sizes(t) for t in texts]
    elements = sum(math.prod(sizes) for _, sizes, _ in read)
    if elements >= MAX_ELEMENTS:
        raise InputError(
            f"the {len(read)} inputs have {elements:,} elements together; less than {MAX_ELEMENTS:,} are supported"
        )
    names = [n for n, _, _ in read if n is not None]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise InputError(f"--input {twice}=… is given more than once: give each argument once")
    args = [] if image is None else [read_image(image)]
    kwargs: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for text in texts:
        name, tensor = parse_input(text, generator)
        if name is None:
            args.append(tensor)
        else:
            kwargs[name] = tensor
    return args, kwargs


def read_pair(text: str, name: str) -> tuple[int, int]:
    """Height and width out of ``112x112``, or one number for both.

    Raises:
        InputError: the text is not of that form.
    """
    form = re.fullmatch(r"([0-9]{1,6})(?:[x×*]([0-9]{1,6}))?", text.strip())
    if form is None:
        raise InputError(
            f"{name} '{_brief(text)}' is no size: write height and width as 112x160, or one number for both"
        )
    return int(form[1]), int(form[2] or form[1])


def _brief(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text):,} characters)"


def read_image(path: str) -> torch.Tensor:
    """A picture as (1, 3, 1, height, width) in [−1, 1].

    Raises:
        InputError: there is no such file, it is no picture, or a very large one.
        MissingExtraError: pillow is not installed.
    """
    picture = read_picture(path)
    full = 255 if picture.dtype == torch.uint8 else 65535
    return picture[None, :, None].to(torch.float32) / (full / 2) - 1


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
