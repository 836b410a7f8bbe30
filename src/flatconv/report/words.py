"""Sentences of the pages: what the numbers of an audit or a fold say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from flatconv.audit import Audit, SiteAudit
from flatconv.report.fold import FoldReport
from flatconv.report.terminal import ENGINES, count, share, size
from flatconv.tune import Tuned

LEVELS: Mapping[str, str] = {
    "exact": "Both sides are the same map: whole-number weights and inputs, whose sums cannot be rounded, give the same bits; "
    "where it says so, unit impulses do with the real weights too.",
    "bounded": "With real weights and random inputs the difference stays within the bound that rounding alone allows.",
    "tested": "Too large for a comparison of its own: known from the runs of the whole model.",
}


def along(op: str) -> str:
    """The axis whose taps are told apart."""
    return "depth" if op.endswith("3d") else "height" if op.endswith("2d") else "the axis"


def plural(number: int, word: str) -> str:
    """1 layer, 2 layers."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def tap_list(taps: Sequence[int]) -> str:
    """'tap 2', 'taps 0, 1' or 'taps 0–6, 9'."""
    ordered = sorted(taps)
    runs: list[list[int]] = [[ordered[0]]]
    for before, tap in pairwise(ordered):
        if tap == before + 1:
            runs[-1].append(tap)
        else:
            runs.append([tap])
    words = [part for run in runs for part in ([f"{run[0]}–{run[-1]}"] if len(run) > 2 else map(str, run))]
    # Striding kernels have as many runs as taps.
    few = [*words[:12], f"… ({len(ordered)} in all)"] if len(words) > 12 else words
    return f"tap{'' if len(ordered) == 1 else 's'} {', '.join(few)}"


def taps_sentence(site: SiteAudit) -> str:
    """What each tap meets, in one sentence."""
    alone = [t for t in site.live_taps if t not in set(site.merged_taps)]
    parts = []
    if len(alone) == site.kernel[0] and len(alone) > 1:
        parts.append("every tap meets data")
    elif alone:
        parts.append(f"{tap_list(alone)} meet{'s' if len(alone) == 1 else ''} data")
    joined = [g for g in site.tap_groups if len(g) > 1]
    parts += [f"{tap_list(g)} meet the same slice and can be added" for g in joined[:4]]
    if len(joined) > 4:
        parts.append(f"{len(joined) - 4} more groups likewise")
    if site.dead_taps:
        parts.append(f"{tap_list(site.dead_taps)} meet{'s' if len(site.dead_taps) == 1 else ''} only zeros")
    return sentence("; ".join(parts))


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '…')) else '.'}"


def beyond_depth(site: SiteAudit) -> bool:
    """Whether more can be left out than the taps along the first axis."""
    return bool(site.kernel) and site.useful_macs * site.kernel[0] < site.macs * len(site.tap_groups)


def narrower(site: SiteAudit) -> bool:
    """Whether taps along the other axes can be left out too; a bias makes the test miss only kernels of one weight."""
    taps, kept = site.kernel[0], len(site.tap_groups)
    return (site.parameters - site.useful_parameters) * taps > site.parameters * (taps - kept)


def more(site: SiteAudit) -> str:
    """What the taps along the first axis do not show; empty if they show all."""
    if not beyond_depth(site):
        return ""
    what = (
        "along the other axes taps meet only zeros too"
        if narrower(site)
        else "results that are equal are computed once"
    )
    return f"Less still is needed: {what}."


def lede(audit: Audit) -> str:
    """How much of what is paid for meets data."""
    t = audit.totals
    if not audit.sites:
        return "This call has no 3-D convolution, and nothing can be left out of its other ones."
    if not t.macs:
        return "On this input the convolutions have no multiply-adds to count."
    layers = "this one convolution" if t.sites == 1 else f"these {t.sites} convolutions"
    if t.useful_macs >= t.macs:
        return f"Every multiply-add in {layers} meets data: there is nothing to leave out."
    part = t.useful_macs / t.macs
    only = "Only " if part < 0.9 else ""
    causes = []
    beyond = [s for s in audit.sites if beyond_depth(s)]
    if any(s.dead_taps for s in audit.sites) or any(narrower(s) for s in beyond):
        causes.append("on zeros")
    if any(s.merged_taps for s in audit.sites):
        causes.append("on multiplying the same slice again")
    if any(not narrower(s) for s in beyond):
        causes.append("on computing equal results again")
    spent = ", ".join(causes[:-1]) + (" and " if len(causes) > 1 else "") + causes[-1] if causes else "for nothing"
    return (
        f"{only}{share(t.useful_macs, t.macs)} of the multiply-adds in {layers} meet data. "
        f"The rest, {count(t.macs - t.useful_macs)} of {count(t.macs)}, is spent {spent}."
    )


def done(report: FoldReport) -> str:
    """How much was rewritten."""
    rewritten = sum(1 for s in report.sites if s.rule)
    if not report.sites:
        return "Nothing was rewritten."
    many = f"{rewritten} of {plural(len(report.sites), 'convolution')}"
    weights = "new weights of lower rank" if report.weights == "folded" else "the original's own weights"
    free = f"Free from call to call: {', '.join(report.free)}." if report.free else "All sizes are fixed."
    return f"{many} rewritten, with {weights}. {free}"


def levels(report: FoldReport) -> list[tuple[str, int, str]]:
    """Each level of evidence with the number of its sites and what it means; the strongest first."""
    found = [e.level for e in report.evidence.sites.values()]
    known = [*LEVELS, *sorted(set(found) - LEVELS.keys())]
    return [(level, found.count(level), LEVELS.get(level, "")) for level in known if level in found]


def whole_model(report: FoldReport) -> str:
    """What the runs of the whole model show."""
    runs = report.evidence.runs
    if not runs:
        return "Verification was switched off: nothing is known of this fold."
    return (
        f"The whole model was run beside the original on {plural(len(runs), 'input')}. In float64, where a wrong rewrite "
        f"cannot hide behind rounding, the largest difference is {report.evidence.float64_error:.1e} of the largest output. "
        f"In its own type the error against float64 is {max(r.folded_error for r in runs):.1e}; "
        f"the original's is {max(r.original_error for r in runs):.1e}."
    )


def shapes(given: Iterable[Sequence[int]]) -> str:
    """Of several inputs; a scalar has none."""
    return ", ".join(size(s) or "scalar" for s in given)


def engine(tuned: Tuned) -> str:
    """Where forms were timed."""
    return ENGINES[tuned.engine]


def peak(size_: int | None) -> str:
    """A peak in bytes; a dash where it could not be told."""
    return "–" if size_ is None else f"{count(size_)}B"


def refusals(report: FoldReport) -> list[tuple[str, str, list[str]]]:
    """(rule, why, names of the sites), most sites first; sizes left free on purpose come last."""
    found: dict[tuple[str, str], list[str]] = {}
    for site in report.sites:
        for refusal in site.refusal:
            rule, _, why = refusal.partition(": ")
            found.setdefault((rule, why), []).append(site.audit.name)

    def order(item: tuple[tuple[str, str], list[str]]) -> tuple[bool, int]:
        return item[0][1].endswith("its size is free"), -len(item[1])

    return [(rule, why, names) for (rule, why), names in sorted(found.items(), key=order)]
