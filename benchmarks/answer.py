"""Writes the verdicts of the committed study into docs/answer.md.

python benchmarks/answer.py
"""

from __future__ import annotations

from pathlib import Path

from flatconv.findings import Study
from flatconv.report.study import verdicts
from flatconv.study import saved

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "docs/study/study.json"
PAGE = ROOT / "docs/answer.md"
BEGIN, END = "<!-- study:", "<!-- end of study -->"


def main() -> None:
    """Read the study and write the page anew."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    mark, tail = rest.split("\n", 1)[0], rest.split(END, 1)[1]
    PAGE.write_text(f"{head}{BEGIN}{mark}\n{part(saved.read(STUDY))}\n{END}{tail}", encoding="utf-8")


def part(study: Study) -> str:
    """The table, and where it was measured."""
    where = study.environment
    return "\n".join(
        [
            *verdicts(study, "study/study.md"),
            "",
            f"Measured {where['date']} on {where['processor']}, {where['threads']} threads, torch {where['torch']}.",
        ]
    )


if __name__ == "__main__":
    main()
