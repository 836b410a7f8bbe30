"""Audits and folds made by hand, so that a page can be tried without capturing a model."""

from flatconv.audit import Audit, SiteAudit, Totals
from flatconv.oracle import SiteEvidence
from flatconv.report.fold import FoldReport, SiteReport
from flatconv.verify import Comparison, Evidence

HOSTILE = (
    "<script>window.hacked=1;alert(1)</script>",
    '"><img src=x onerror="window.hacked=1;alert(2)">',
    "</style></title><script>window.hacked=1</script>",
    "' onmouseover='window.hacked=1' x='",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(3)//\u202egnp.exe\x1b[31m\x00\ud800\u2028",
    "--><svg onload=window.hacked=1>",
    "]]>&lt;b&gt;",
)


def site(name="net.0", kernel=(3, 3, 3), groups=((1,),), op="conv3d", channels=4, outputs=1, reason="", other=1.0):
    """A site whose live taps are those of the groups; ``other`` is the part kept along the other axes."""
    live = tuple(sorted(t for g in groups for t in g))
    weights = channels * channels
    for k in kernel:
        weights *= k
    kept = int(weights // kernel[0] * len(groups) * other)
    face = tuple(8 for _ in kernel[1:])
    return SiteAudit(
        name=name, op=op, kernel=tuple(kernel), input_shape=(1, channels, outputs, *face),
        output_shape=(1, channels, outputs, *face), live_taps=live,
        dead_taps=tuple(t for t in range(kernel[0]) if t not in live),
        merged_taps=tuple(sorted(t for g in groups if len(g) > 1 for t in g)), tap_groups=tuple(groups),
        reason=reason or f"the reason of {name}", macs=weights * 64, useful_macs=kept * 64,
        parameters=weights + channels, useful_parameters=kept + channels, bytes=4000, useful_bytes=3000,
    )  # fmt: skip


def audit(sites, **more):
    """An audit of these sites."""
    sums = {
        key: sum(getattr(s, key) for s in sites)
        for key in ("macs", "useful_macs", "parameters", "useful_parameters", "bytes", "useful_bytes")
    }
    plain = {
        "model": "Net", "method": "forward", "inputs": (("x", (1, 3, 1, 8, 8)),), "unused_parameters": (), "unknown": {},
    }  # fmt: skip
    return Audit(sites=tuple(sites), totals=Totals(len(sites), **sums), **(plain | more))


def mixed():
    """Every kind of tap, and every odd size."""
    return audit([
        site("causal", groups=((2,),)),
        site("repeat", groups=((0, 1, 2),)),
        site("two", (5, 3, 3), groups=((0, 1), (2,), (3, 4))),
        site("plain", groups=((0,), (1,), (2,))),
        site("none", groups=()),
        site("big", (3, 31, 31), groups=((1,),)),
        site("long", (40, 1, 1), groups=((19,), (20,))),
        site("patch", (2, 14, 14), groups=((0,), (1,))),
        site("picture", (3, 3), groups=((1,),), op="conv2d"),
        site("line", (3,), groups=((1,),), op="conv1d"),
        site("causal.again", groups=((2,),), channels=8),
    ])  # fmt: skip


def hostile():
    """A fold with names that would like to be code, at every place that a name can get to."""
    sites = [site(name, reason=name, groups=((2,),)) for name in HOSTILE]
    numbers = audit(
        sites, model=HOSTILE[0], method=HOSTILE[1], inputs=tuple((n, (1, 2)) for n in HOSTILE[2:]),
        unused_parameters=HOSTILE, unknown=dict.fromkeys(HOSTILE, HOSTILE), notes=HOSTILE, assumptions=HOSTILE,
    )  # fmt: skip
    done = [
        SiteReport(s, ("drop dead taps", n), tuple(f"{n}: {n}" for n in HOSTILE), n, SiteEvidence(n, n, 0.5))
        for s, n in zip(sites, HOSTILE, strict=True)
    ]
    evidence = Evidence({s.name: d.evidence for s, d in zip(sites, done, strict=True)}, (run(),))
    return FoldReport(numbers, tuple(done), "folded", HOSTILE, evidence, HOSTILE, HOSTILE)


def run():
    """One run of the whole model."""
    return Comparison(((1, 3, 1, 8, 8),), 1.2e-16, 9.1e-8, 9.3e-8, 512)


def folded():
    """A fold of three sites: one loses its depth, one keeps it, one is left alone."""
    numbers = audit([
        site("flat", groups=((2,),)), site("deep", groups=((0,), (1, 2)), outputs=2), site("left", groups=((0,), (1,), (2,)))
    ])  # fmt: skip
    exact = SiteEvidence("exact", "dyadic integers", 0.0)
    bounded = SiteEvidence("bounded", "random inputs", 0.25)
    free = "drop an axis: axis 3: its size is free"
    kept = "drop an axis: axis 2: 2 slices are all different"
    flat, deep, left = numbers.sites
    return FoldReport(
        audit=numbers,
        sites=(
            SiteReport(flat, ("drop dead taps", "drop an axis"), (free,), "conv2d", exact),
            SiteReport(deep, ("merge taps",), (kept, free), "conv3d", bounded),
            SiteReport(left, (), (kept, free), "conv3d", None),
        ),
        weights="folded",
        free=("x.shape[0]",),
        evidence=Evidence({"flat": exact, "deep": bounded}, (run(), run())),
        assumptions=(),
        unused_parameters=(),
    )


MEASURED = {
    "time": {"original": 0.2, "folded": 0.05, "ratio": 4.0, "spread": (3.8, 4.2), "rounds": 9},
    "peak_memory": {"original": 4000000, "folded": 1000000},
    "weights": {"original": 300, "folded": 100},
    "threads": 2,
    "torch": "2.13.0",
}
