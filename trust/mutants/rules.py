"""Wrong rules: they fire where they are not exact."""

from trust.mutant import of

absorb, axis, dead = of("rules/absorb_padding.py"), of("rules/drop_axis.py"), of("rules/drop_dead_taps.py")
merge, one = of("rules/merge_taps.py"), of("rules/one_output.py")

MUTANTS = (
    absorb(
        "absorbed-sides-swapped",
        "field:causal",
        "lo, hi = pad.sides[axis.axis]",
        "hi, lo = pad.sides[axis.axis]",
        "a causal pad absorbed behind instead of in front",
    ),
    absorb(
        "absorbed-symmetric",
        "field:causal",
        "hi=axis.hi + hi,",
        "hi=axis.hi + lo,",
        "an asymmetric pad absorbed as a symmetric one",
    ),
    absorb(
        "absorbed-constant",
        "padding-mode",
        "if not pad.zeros:",
        'if pad.mode != "constant":',
        "a pad with ones absorbed as zeros",
    ),
    absorb(
        "absorbed-replicate",
        "padding-mode",
        "if not pad.zeros:",
        "if pad.value != 0:",
        "a replicate pad absorbed as zeros",
    ),
    absorb(
        "absorbed-crop",
        "border",
        "(a not in spatial or min(side) < 0)",
        "(a not in spatial or min(side) < -1)",
        "a crop by one in front of a padded convolution set off against the padding",
    ),
    absorb(
        "absorbed-by-transposed",
        "transposed",
        "    if site.transposed:\n",
        "    if site.transposed and pad.value != 0:\n",
        "a pad absorbed by a transposed convolution, whose padding cuts",
    ),
    axis(
        "axis-with-own-subsets",
        "few-slices",
        "if len(read) > 1:",
        "if len(read) > 2:",
        "an axis dropped though its results read different slices",
    ),
    axis(
        "axis-over-bare-bias",
        "zero-lost",
        "if () in rows and site.bias is not None:",
        "if () in rows and site.bias is not None and site.transposed:",
        "an axis dropped though some results are the bare bias",
    ),
    axis(
        "axis-of-groups",
        "groups",
        "last and (site.transposed or all(",
        "last and (site.transposed and all(",
        "a grouped convolution made a matrix product, which knows no groups",
    ),
    dead(
        "the-first-live-tap-lost",
        "few-slices",
        "fewer = replace(axis, taps=tuple((t,) for t in live))",
        "fewer = replace(axis, taps=tuple((t,) for t in live[-2:]))",
        "of three live taps beside dead ones the first is dropped too",
    ),
    dead(
        "mirrored-live-tap",
        "field:causal",
        "fewer = replace(axis, taps=tuple((t,) for t in live))",
        "fewer = replace(axis, taps=tuple((axis.kernel - 1 - t,) for t in reversed(live)))",
        "the first tap of a causal convolution kept instead of the last",
    ),
    dead(
        "centre-tap-by-rule",
        "field:causal",
        "fewer = replace(axis, taps=tuple((t,) for t in live))",
        "fewer = replace(axis, taps=((axis.kernel // 2,),) if len(live) == 1 else tuple((t,) for t in live))",
        "the centre tap kept whatever the padding",
    ),
    dead(
        "dead-taps-of-transposed",
        "transposed",
        "if site.transposed and not meets_one_slice(site, fewer):",
        "if site.transposed and not meets_one_slice(site, fewer) and len(live) < 2:",
        "taps of a transposed convolution dropped with the output that they make",
    ),
    merge(
        "merged-out-of-order",
        "border",
        "groups.setdefault(tuple(axis.meets(o, tap) for o in range(axis.outputs)), [])",
        "groups.setdefault(tuple(sorted(axis.meets(o, tap) for o in range(axis.outputs))), [])",
        "taps merged that meet the same slices at different positions",
    ),
    merge(
        "merged-by-the-first-output",
        "border",
        "groups.setdefault(tuple(axis.meets(o, tap) for o in range(axis.outputs)), [])",
        "groups.setdefault(tuple(axis.meets(o, tap) for o in range(1)), [])",
        "taps merged that meet equal slices at the first position only",
    ),
    merge(
        "merged-zeros-aside",
        "border",
        "groups.setdefault(tuple(axis.meets(o, tap) for o in range(axis.outputs)), [])",
        "groups.setdefault(tuple({axis.meets(o, tap) for o in range(axis.outputs)} - {0}), [])",
        "taps merged that meet equal slices or the zero border",
    ),
    one(
        "one-output-of-two",
        "border",
        "if len(rows) == 1 and rows != {()}:",
        "if len(rows) <= 2 and rows != {()}:",
        "the first result taken for all though the border's is another",
    ),
    one(
        "one-output-by-the-ends",
        "border",
        "if len(rows) == 1 and rows != {()}:",
        "if axis.row(0) == axis.row(axis.outputs - 1) and rows != {()}:",
        "all results taken as equal because the first and the last are",
    ),
)
