import pytest


@pytest.fixture(autouse=True)
def plans(rules_alone):
    """The tests of rules are about plans, not about forms."""
