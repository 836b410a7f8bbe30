"""What a way to stack does to the use of each kernel: the same model on a window and on one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from flatconv.audit import Audit, SiteAudit
from flatconv.audit import audit as run_audit
from flatconv.errors import FlatconvError


@dataclass(frozen=True)
class Compared:
    """One model on two depths.

    Attributes:
        how: the strategy, as text.
        depth: of its windows.
        stacked: sites on a window.
        single: the same sites on one image, by name; None for those that do not run there.
        useful: share of multiply-adds that meet data, on a window and on one image; None where the model does not run.
        refusal: why the model does not run on one image; empty if it does.
    """

    how: str
    depth: int
    stacked: tuple[SiteAudit, ...]
    single: tuple[SiteAudit | None, ...]
    useful: tuple[float, float | None]
    refusal: str

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON: numbers for each site, without the audits themselves."""
        found = asdict(self)
        del found["stacked"], found["single"]
        found["sites"] = [
            {
                "name": one.name,
                "live_taps": {"stacked": one.live_taps, "single": None if other is None else other.live_taps},
                "useful": {"stacked": useful(one), "single": None if other is None else useful(other)},
            }
            for one, other in zip(self.stacked, self.single, strict=True)
        ]
        return found


def useful(site: SiteAudit) -> float:
    """Share of a site's multiply-adds that meet data."""
    return site.useful_macs / site.macs if site.macs else 1.0


def compare(
    model: nn.Module,
    found: Audit,
    how: str,
    args: Sequence[torch.Tensor],
    kwargs: Mapping[str, torch.Tensor],
    method: str,
) -> Compared:
    """Audit the model on the first frame of a window too."""
    window = args[0]
    by: dict[str, SiteAudit] = {}
    refusal, share = "", None
    try:
        single = run_audit(model, [window[:, :, :1].contiguous(), *args[1:]], kwargs, method=method)
        by = {s.name: s for s in single.sites}
        share = single.totals.useful_macs / max(single.totals.macs, 1)
    except FlatconvError as e:
        refusal = str(e)
    return Compared(
        how, int(window.shape[2]), found.sites, tuple(by.get(s.name) for s in found.sites),
        (found.totals.useful_macs / max(found.totals.macs, 1), share), refusal,
    )  # fmt: skip
