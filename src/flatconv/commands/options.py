"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="package.module:factory, path/to/file.py:factory, diffusers:FOLDER, transformers:FOLDER, model.onnx, model.pt2 or "
        "model.pt.",
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="SIZES",
        help="Example input, such as 1x3x1x256x256, x=1x3x1x64x64 or 1x77:int64. Repeat for more.",
    ),
]
Image = Annotated[
    str | None, typer.Option("--image", metavar="FILE", help="A picture as the input, 1x3x1xHxW in [-1, 1].")
]
Images = Annotated[
    str | None,
    typer.Option(
        "--images", metavar="SOURCE", help="A folder or file; the first window of --stack is the input, 1xCxDxHxW."
    ),
]
How = Annotated[
    str | None,
    typer.Option(
        "--stack",
        metavar="HOW",
        help="How --images get depth: single, time:16,step=8, slices:5, bands, pyramid:4, bracket:5.",
    ),
]
Size = Annotated[str | None, typer.Option("--size", metavar="HxW", help="Resize frames to this height and width.")]
Channels = Annotated[str | None, typer.Option("--channels", metavar="rgb|gray|stored", help="Channels of each frame.")]
Layout = Annotated[
    str | None, typer.Option("--layout", metavar="AXES", help="Axes of a .npy or .safetensors array, such as TCHW.")
]
Method = Annotated[str, typer.Option(help="The method to call: forward, encode, decode, …")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Open files that can run any code as you: .pt2, .pt, .bin, .ckpt.")
]
State = Annotated[str | None, typer.Option("--state", metavar="FILE", help="Weights for the model: .safetensors.")]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="SPEC",
        help="A module to compare with, such as a 2-D form by hand, called with the same inputs.",
    ),
]
Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where to measure.")]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="float32|bfloat16|float16", help="Type of weights and inputs; as they are if left out."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite earlier results.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing.")]
