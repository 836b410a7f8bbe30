"""One claim a file; the order of the report is the order of ``CLAIMS``."""

from flatconv.findings import Experiment

CLAIMS: tuple[Experiment, ...] = ()
