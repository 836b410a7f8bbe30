"""What a fold did, as frozen numbers and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flatconv.audit import Audit, SiteAudit
from flatconv.oracle import SiteEvidence
from flatconv.tune import Tuned
from flatconv.verify import Evidence


@dataclass(frozen=True)
class SiteReport:
    """One site of a fold: everything of its audit, and what was done.

    Attributes:
        audit: the numbers.
        rule: names of the rules applied, in order; empty if the site was left alone.
        refusal: why other rules were not.
        becomes: the operator in the folded model.
        evidence: what is known of the rewrite; None if it was not verified, or nothing was done.
    """

    audit: SiteAudit
    rule: tuple[str, ...]
    refusal: tuple[str, ...]
    becomes: str
    evidence: SiteEvidence | None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "audit" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.audit, name)


@dataclass(frozen=True)
class FoldReport:
    """A whole fold.

    Attributes:
        audit: of the original.
        sites: one for each site of the audit.
        weights: 'folded' or 'shared'.
        free: sizes that may change from call to call.
        evidence: of the whole model and of every site.
        assumptions: facts that were declared and not derived.
        unused_parameters: names of parameters that this call never reads.
        tuned: what was timed to choose between forms; None where the choice was the fixed one.
    """

    audit: Audit
    sites: tuple[SiteReport, ...]
    weights: str
    free: tuple[str, ...]
    evidence: Evidence
    assumptions: tuple[str, ...]
    unused_parameters: tuple[str, ...]
    tuned: Tuned | None = None

    def __str__(self) -> str:
        from flatconv.report.terminal import render_fold

        return render_fold(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        found = asdict(self)
        found["sites"] = [s.pop("audit") | s for s in found["sites"]]
        found["audit"].pop("sites")
        return found

    def to_json(self) -> str:
        """JSON text."""
        from flatconv.report.jsonview import dumps

        return dumps(self.to_dict())

    def to_html(self, path: Any, *, force: bool = False, measured: Mapping[str, Any] | None = None) -> None:
        """Write one self-contained page: the audit, what was done, and how far it is known to be right.

        Args:
            path: of the file.
            force: replace a file that exists.
            measured: times and memory of both sides, as ``flatconv fold --measure`` takes them.

        Raises:
            InputError: the file exists and ``force`` is not set, or it cannot be written.
        """
        from flatconv.report import html

        html.write(path, html.fold_html(self, measured), force=force)
