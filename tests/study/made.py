"""Small made-up results for the tests of the runner and the views."""

from dataclasses import dataclass
from types import SimpleNamespace

from flatconv.findings import Chart, Claim, Entry, Estimate, Result, Series, Study, Table


@dataclass(frozen=True)
class Config:
    seeds: tuple[int, ...] = (0, 1)
    rate: float = 0.5


def estimate(name="gain", value=0.5, low=0.25, high=0.75, **more):
    return Estimate(name, value, low, high, **more)


def chart(kind="bars", **more):
    x = ("one", "two") if kind == "bars" else (1.0, 2.0)
    series = (Series("first", x, (1.0, 2.0), (0.5, 1.5), (1.5, 2.5)), Series("second", x, (0.0, 3.0)))
    return Chart(kind, "A title", "across", "up", more.pop("series", series), **more)


def result(verdict="confirmed", word="plain", **more):
    given = {
        "finding": f"a {word} finding",
        "estimates": (estimate(word), estimate("second", float("nan"), float("-inf"), float("inf"), n=1)),
        "charts": (chart(), chart("lines", reference=(1.0, "parity"))),
        "tables": (Table(f"a {word} table", (word, "n"), ((word, 3), (0.25, estimate(unit="ms", n=7)))),),
        "notes": (f"a {word} note",),
        "advice": f"do `flatconv audit` and {word}",
    }
    return Result(verdict=verdict, **(given | more))


def experiment(key, ran, verdict="confirmed", fails=None):
    """What a module in ``claims/`` has; ``ran`` gets the key and the configuration of each run."""

    def run(config, progress):
        progress("working")
        if fails is not None:
            raise fails
        ran.append((key, config))
        return result(verdict, key)

    claim = Claim(key, f"title of {key}", f"said in {key}", f"question of {key}")
    return SimpleNamespace(CLAIM=claim, FULL=Config((0, 1, 2)), QUICK=Config(), run=run)


def study(word="plain", quick=False, verdicts=("confirmed", "corrected", "refuted", "undecided")):
    entries = tuple(
        Entry(Claim(f"C{i}", word, word, word), {"word": word, "ways": [{"rate": 0.5}]}, result(v, word), 12.0)
        for i, v in enumerate(verdicts, 1)
    )
    return Study(entries, quick, {"torch": word})
