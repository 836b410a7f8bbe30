"""flatconv: networks with 3-D convolutions on 2-D images, at the cost of 2-D ones, and why that is right."""

from flatconv.assume import repeated
from flatconv.audit import Audit, audit
from flatconv.errors import FlatconvError, GuardError, InputError, RefusedError, VerificationError
from flatconv.fold import fold
from flatconv.module import Folded
from flatconv.patch import Patched, patch
from flatconv.reinit import reinit
from flatconv.route import Call
from flatconv.stack import Stack, Window, stack
from flatconv.tune import Tuning

__all__ = [
    "Audit",
    "Call",
    "FlatconvError",
    "Folded",
    "GuardError",
    "InputError",
    "Patched",
    "RefusedError",
    "Stack",
    "Tuning",
    "VerificationError",
    "Window",
    "audit",
    "fold",
    "patch",
    "reinit",
    "repeated",
    "stack",
]
__version__ = "0.1.0"
