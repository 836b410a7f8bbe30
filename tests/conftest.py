"""What holds for all tests: forms are a fixed choice unless a test asks to time them, and no cache of the user's is touched."""

import pytest


@pytest.fixture(autouse=True)
def fixed_choice(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("FLATCONV_TUNE", "0")
    monkeypatch.setenv("FLATCONV_CACHE", str(tmp_path_factory.mktemp("cache", numbered=True)))
