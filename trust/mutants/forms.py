"""Wrong forms: another order of taps, slices, channels or groups, or a form where it is not exact."""

from trust.mutant import of

patches, channels, batch = of("forms/patches.py"), of("forms/axis_into_channels.py"), of("forms/axis_into_batch.py")
pointwise, total, unfold = of("forms/pointwise_axes.py"), of("forms/sum_of_slices.py"), of("forms/unfold_axis.py")
planes, together, lower = of("forms/planes.py"), of("forms/together.py"), of("lower.py")

MUTANTS = (
    patches(
        "patches-overlapping",
        "remainder",
        "if a.kernel != a.stride:",
        "if a.kernel < a.stride:",
        "patches that overlap taken for patches beside each other",
    ),
    patches(
        "patches-without-padding",
        "border",
        "if a.lo or a.hi:",
        "if a.lo > 1 or a.hi > 1:",
        "a padding of one ignored where patches are cut",
    ),
    patches(
        "patches-of-groups",
        "groups",
        "if here.groups != 1:",
        "if here.groups > 8:",
        "groups ignored in a matrix product of patches",
    ),
    patches(
        "patches-with-a-rest",
        "remainder",
        "low.call(aten.slice.Tensor, given, at, 0, count * a.kernel) if rest else given",
        "low.call(aten.slice.Tensor, given, at, rest, count * a.kernel + rest) if rest else given",
        "what is left over cut off in front instead of behind",
    ),
    patches(
        "patches-in-another-order",
        "flatten",
        "cut = low.call(aten.permute.default, cut, [0, *counts, 1, *inner])",
        "cut = low.call(aten.permute.default, cut, [0, *counts, *inner, 1])",
        "channels behind the taps in the matrix of patches",
    ),
    patches(
        "patches-through-a-permute",
        "flatten",
        "while isinstance(ops.room(source), Reshape):",
        "while source.tensors:",
        "a permute taken for a view in front of a matrix product",
    ),
    channels(
        "frames-before-channels",
        "field:tiled",
        "return call(aten.flatten.using_ints, given, 1, 2)",
        "return call(aten.flatten.using_ints, call(aten.transpose.int, given, 1, 2), 1, 2)",
        "the weight's channels ordered by tap, the input's by channel",
    ),
    channels(
        "frames-into-channels-of-groups",
        "groups",
        "if here.transposed or not here.batched or here.groups != 1:",
        "if here.transposed or not here.batched:",
        "groups lost where frames join the channels",
    ),
    planes(
        "slices-before-batch",
        "batch-order",
        "low.call(aten.unflatten.int, made, 0, [batch, count]), 1, 2)",
        "low.call(aten.unflatten.int, made, 0, [count, batch]), 1, 2)",
        "batch and slices in the wrong order on the way back",
    ),
    batch(
        "padded-frames-into-batch",
        "border",
        "if lo or hi:",
        "if lo > 1 or hi > 1:",
        "a frame of padding lost where frames join the batch",
    ),
    batch(
        "stride-from-the-second",
        "skipped-slice",
        "given = low.call(aten.slice.Tensor, given, 2, 0, None, axis.stride)",
        "given = low.call(aten.slice.Tensor, given, 2, (axis.size - 1) % axis.stride, None, axis.stride)\n"
        "        given = low.call(aten.flip.default, given, [2])",
        "strided frames read from behind",
    ),
    pointwise(
        "pointwise-with-stride",
        "skipped-slice",
        "(a.kernel, a.stride, a.lo, a.hi) == (1, 1, 0, 0)",
        "(a.kernel, a.lo, a.hi) == (1, 0, 0)",
        "a stride lost where two axes become one",
    ),
    pointwise(
        "pointwise-with-padding",
        "zero-lost",
        "(a.kernel, a.stride, a.lo, a.hi) == (1, 1, 0, 0)",
        "(a.kernel, a.stride) == (1, 1)",
        "padding lost where two axes become one",
    ),
    total(
        "sum-without-stride",
        "field:strided-causal",
        "met = low.call(aten.slice.Tensor, given, 1, start, start + (count - 1) * stride + 1, stride)",
        "met = low.call(aten.slice.Tensor, given, 1, start, start + count, 1)",
        "the stride along the axis ignored in a sum of slices",
    ),
    total(
        "sum-with-the-bias-of-every-tap",
        "zero-lost",
        "bias if total is None else None",
        "bias",
        "the bias added once for every tap",
    ),
    total(
        "sum-without-dilation",
        "same-dilation",
        "start = i * dilation",
        "start = i",
        "the dilation along the axis ignored in a sum of slices",
    ),
    total(
        "sum-padded-behind",
        "field:causal",
        "given = pad_axis(low, select_source(here, low), 2, len(here.kept) + 2, lo, hi)",
        "given = pad_axis(low, select_source(here, low), 2, len(here.kept) + 2, hi, lo)",
        "front and back padding swapped in a sum of slices",
    ),
    unfold(
        "unfold-taps-before-channels",
        "groups",
        "low.call(aten.stack.default, met, 3)",
        "low.call(aten.transpose.int, low.call(aten.stack.default, met, 3), 2, 3)",
        "taps in front of channels, which also mixes groups",
    ),
    unfold(
        "unfold-without-dilation",
        "same-dilation",
        "i * dilation, i * dilation + reach, stride)",
        "i, i + reach, stride)",
        "the dilation along the axis ignored where taps become channels",
    ),
    together(
        "together-with-other-strides",
        "consumers",
        "axes = tuple(replace(a, ids=None) for a in here.axes)",
        "axes = tuple(replace(a, ids=None, stride=1, outputs=0) for a in here.axes)",
        "branches of different strides computed as one",
    ),
    lower(
        "branches-swapped",
        "consumers",
        "start = sum(counts[: here.together.index(here.node)])",
        "start = sum(counts[here.together.index(here.node) + 1 :])",
        "branches that are computed as one get each other's results",
    ),
)
