"""``flatconv audit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flatconv import files
from flatconv.audit import audit as run_audit
from flatconv.commands import options
from flatconv.commands.call import Call
from flatconv.commands.console import err, out, step
from flatconv.depths import compare
from flatconv.errors import plain
from flatconv.report.jsonview import dumps
from flatconv.report.stacking import comparison_view, stack_view
from flatconv.report.terminal import audit_view


def audit(
    spec: options.Spec,
    input_: options.Input = None,
    image: options.Image = None,
    images: options.Images = None,
    how: options.How = None,
    size: options.Size = None,
    channels: options.Channels = None,
    layout: options.Layout = None,
    method: options.Method = "forward",
    trust: options.Trust = False,
    state: options.State = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as one page.")] = None,
    force: options.Force = False,
    json_: options.Json = False,
) -> None:
    """Show which taps of each 3-D kernel meet data, and what the others cost."""
    if html is not None:
        files.check_file(html, force=force)
    call = Call(spec, input_, image, images, how, size, channels, layout, method, trust, state)
    args, kwargs = call.example()
    model = call.model()
    found = step("capturing and analysing", lambda: run_audit(model, args, kwargs, method=method))
    if html is not None:
        found.to_html(html, force=force)
        err.print(Text(f"Wrote {plain(html)}"))
    made = call.stack
    if made is None:
        if json_:
            sys.stdout.write(found.to_json() + "\n")
        else:
            out.print(audit_view(found, out.width))
        return
    compared = step("the same on one image", lambda: compare(model, found, str(made.how), args, kwargs, method))
    if json_:
        more = {"stack": made.summary().to_dict(), "compared": compared.to_dict()}
        sys.stdout.write(dumps(found.to_dict() | more) + "\n")
        return
    out.print(stack_view(made.summary()))
    out.print(audit_view(found, out.width))
    out.print(comparison_view(compared))
