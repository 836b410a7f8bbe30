"""The frame: one file, our own scripts by their hash, everything else escaped."""

import base64
import hashlib
import re

import jinja2
import pytest

from flatconv.report import page


def test_only_our_own_script_may_run():
    text = page.page("base.html.j2", scripts=("layers.js",), kind="report")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    assert f"script-src &#39;sha256-{known}&#39;" in policy or f"script-src 'sha256-{known}'" in policy
    assert "default-src" in policy
    assert "http" not in policy


def test_without_scripts_none_may_run():
    assert re.search(r"script-src (&#39;|')none", page.page("base.html.j2", kind="report"))


def test_what_is_printed_is_escaped_and_has_a_shape():
    text = page.page("base.html.j2", kind="<b>\u202e\x1b\ud800&")
    assert r"&lt;b&gt;\u202e\x1b\ud800&amp;" in text
    text.encode()


def test_a_name_that_a_template_lacks_is_noticed():
    with pytest.raises(jinja2.UndefinedError):
        page.page("base.html.j2")


def test_a_drawing_as_data():
    uri = page.data_uri("<svg>é</svg>")
    head, _, data = uri.partition(",")
    assert head == "data:image/svg+xml;base64"
    assert base64.b64decode(data).decode() == "<svg>é</svg>"


def test_versions():
    assert page.versions().keys() == {"flatconv", "torch", "Python"}
