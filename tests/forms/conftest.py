import pytest

from flatconv import forms


@pytest.fixture
def take(monkeypatch):
    """Fold every convolution in a form of the test's choice, wherever it applies."""

    def choose(name: str, last: bool = False) -> None:
        def fixed(here):
            return forms.take(here, name, last) if forms.FORMS[name].why_not(here) is None else here

        monkeypatch.setattr(forms, "fixed", fixed)

    return choose
