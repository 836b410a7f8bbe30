"""Failures inside the harness are explained as those of a test are."""

import pytest

pytest.register_assert_rewrite("tests.ops.harness")
