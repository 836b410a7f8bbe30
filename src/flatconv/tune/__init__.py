"""The measured choice among exact forms: settings and results, the search, and the cache of earlier choices."""

from flatconv.tune.results import Engine, SiteTrial, Trial, Tuned, Tuning
from flatconv.tune.search import tune

__all__ = ["Engine", "SiteTrial", "Trial", "Tuned", "Tuning", "tune"]
