"""The measured choice among exact forms: settings and results, the search, and the cache of earlier choices."""

from flatconv.tune.results import RUNTIMES, Engine, SiteTrial, Trial, Tuned, Tuning
from flatconv.tune.search import tune

__all__ = ["RUNTIMES", "Engine", "SiteTrial", "Trial", "Tuned", "Tuning", "tune"]
