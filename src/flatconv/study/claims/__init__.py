"""One claim a file; the order of the report is the order of ``CLAIMS``."""

from flatconv.findings import Experiment
from flatconv.study.claims import (
    c1_direct_use,
    c2_dead_taps_in_training,
    c3_direct_cost,
    c4_unit_depth_cost,
    c5_accuracy,
    c6_time,
    c7_slices,
    c8_bands,
    c9_unit_depth_equals_2d,
)

CLAIMS: tuple[Experiment, ...] = (
    c1_direct_use,
    c2_dead_taps_in_training,
    c3_direct_cost,
    c4_unit_depth_cost,
    c5_accuracy,
    c6_time,
    c7_slices,
    c8_bands,
    c9_unit_depth_equals_2d,
)
