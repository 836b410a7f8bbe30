"""``flatconv audit``."""

from __future__ import annotations

import sys

from flatconv.audit import audit as run_audit
from flatconv.commands import options
from flatconv.commands.call import Call
from flatconv.commands.console import out, step
from flatconv.depths import compare
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
    json_: options.Json = False,
) -> None:
    """Show which taps of each 3-D kernel meet data, and what the others cost."""
    call = Call(spec, input_, image, images, how, size, channels, layout, method, trust, state)
    args, kwargs = call.example()
    model = call.model()
    found = step("capturing and analysing", lambda: run_audit(model, args, kwargs, method=method))
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
