"""What a fold is worth: the original, the fold and a reference in every engine, side by side. Numbers only.

    case = Case(model, (x,), reference=by_hand)
    print(run(case, Plan(engines=("eager", "compile"))))

Sides alternate in one process, and only ratios within a round are compared. A side is timed only if its output is the
original's. An engine that is not there, or refuses a side, is a row with the reason.
"""

from flatconv.bench.engines import ENGINES, NAMES, Engine
from flatconv.bench.result import Bench, Row, Summary, Timed
from flatconv.bench.run import QUICK, Plan, run
from flatconv.bench.sides import Case

__all__ = ["ENGINES", "NAMES", "QUICK", "Bench", "Case", "Engine", "Plan", "Row", "Summary", "Timed", "run"]
