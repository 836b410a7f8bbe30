"""One self-contained page: templates, styles and scripts of this folder put together into a single HTML text.

A page loads nothing and sends nothing. Names from models and files reach it as text only: what has no shape of its own is
written as an escape (``errors.plain``), the rest is escaped by the templates, and a policy in the page's head lets no other
script run than the ones put in here, known by their hash.
"""

from __future__ import annotations

import base64
import hashlib
import platform
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import torch
from markupsafe import Markup

from flatconv.errors import plain
from flatconv.report import style

TEMPLATES = resources.files("flatconv.report") / "templates"


def page(template: str, *, scripts: tuple[str, ...] = (), **context: Any) -> str:
    """Fill a template that extends ``base.html.j2``.

    Its blocks are ``title`` (plain text), ``head`` (more styles), ``main`` and ``scripts``.

    Args:
        template: its file name, such as 'audit.html.j2'.
        scripts: file names of scripts in the same folder, to be put at the end of the page. No other script can run.
        context: what the template calls by name. Text is escaped.

    Returns:
        The whole HTML document.
    """
    texts = [_text(name) for name in scripts]
    hashes = " ".join(f"'sha256-{_hash(text)}'" for text in texts) or "'none'"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'unsafe-inline'; script-src {hashes}"
    )
    found = _environment().get_template(template)
    return found.render(
        policy=policy,
        tokens=Markup(style.tokens()),
        page_scripts=[Markup(text) for text in texts],
        versions=versions(),
        **context,
    )


def versions() -> dict[str, str]:
    """Of what made the report."""
    from flatconv import __version__

    return {"flatconv": __version__, "torch": torch.__version__, "Python": platform.python_version()}


def data_uri(svg: str) -> str:
    """A drawing as the source of an ``img``: whatever is in it can then neither run nor load anything."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    found.globals["style_file"] = lambda name: Markup(_text(name))  # our own files, nobody else's
    return found


def _finalize(value: Any) -> Any:
    """What a template prints: our own markup as it is, everything else without characters that have no shape."""
    return value if hasattr(value, "__html__") else plain(value)
