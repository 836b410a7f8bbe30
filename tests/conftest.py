"""What holds for all tests: forms are a fixed choice unless a test asks to time them, and no cache of the user's is touched."""

import os

# Where the processor has AMX, some bfloat16 convolutions of torch 2.13 read memory that nothing has written: the models that
# are tested would differ from call to call. oneDNN reads this when it is first used.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import pytest

from flatconv import forms


@pytest.fixture(autouse=True)
def fixed_choice(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("FLATCONV_TUNE", "0")
    monkeypatch.setenv("FLATCONV_CACHE", str(tmp_path_factory.mktemp("cache", numbered=True)))


@pytest.fixture
def rules_alone(monkeypatch):
    """Every convolution as the rules leave it, for tests of what they leave."""
    monkeypatch.setattr(forms, "fixed", lambda here: here)
