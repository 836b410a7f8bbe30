"""Every convolution in a form that is drawn, so that all forms are attacked and not only the one that would be chosen."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

from flatconv import forms
from flatconv.forms import together
from flatconv.ops.conv import Site
from flatconv.program import Node


@contextmanager
def scattered(seed: int | str) -> Iterator[None]:
    """Folds inside take forms, memory formats and joint convolutions drawn from ``seed``."""

    def choose(sites: Mapping[Node, Site], engine: str = "") -> dict[Node, Site]:
        r = random.Random(f"forms {seed}")
        last = r.random() < 0.3
        made = {n: _drawn(s, r, last) for n, s in sites.items()}
        for bundle in together.bundles(made):
            if together.why_not([made[n] for n in bundle]) is None and r.random() < 0.7:
                made = together.take(made, bundle)
        return made

    with mock.patch.object(forms, "choose", choose):
        yield


def _drawn(here: Site, r: random.Random, last: bool) -> Site:
    name = r.choice(forms.possible(here))
    return forms.take(here, name, last and forms.has_format(here, name))


@contextmanager
def everywhere(name: str) -> Iterator[None]:
    """Folds inside take one form wherever it applies."""

    def fixed(here: Site) -> Site:
        return forms.take(here, name) if name in forms.possible(here) else here

    def choose(sites: Mapping[Node, Site], engine: str = "") -> dict[Node, Site]:
        made = {n: fixed(s) for n, s in sites.items()}
        if name == together.NAME:
            for bundle in together.bundles(made):
                made = together.take(made, bundle)
        return made

    with mock.patch.object(forms, "choose", choose):
        yield
