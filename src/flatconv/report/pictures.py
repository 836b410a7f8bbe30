"""Pictures put next to each other."""

from __future__ import annotations

from typing import Any

LABELS = ("input", "original", "folded", "difference x 1000")


def side_by_side(pictures: list[Any]) -> Any:
    """Input, result of the original, result of the fold, and their difference, with labels.

    Args:
        pictures: three RGB pictures of pillow.
    """
    from PIL import Image, ImageChops, ImageDraw, ImageFont

    _, original, folded = pictures
    difference = ImageChops.difference(original, folded).point(lambda v: min(v * 1000, 255))
    shown = [*pictures, difference]
    bar, gap = 28, 8
    width = sum(p.width for p in shown) + gap * (len(shown) - 1)
    page = Image.new("RGB", (width, max(p.height for p in shown) + bar), "white")
    draw, font, left = ImageDraw.Draw(page), ImageFont.load_default(16), 0
    for picture, label in zip(shown, LABELS, strict=True):
        draw.text((left + 4, 5), label, fill="black", font=font)
        page.paste(picture, (left, bar))
        left += picture.width + gap
    return page
