"""Every two options of a convolution together, against eager in float64."""

import itertools

import pytest
import torch
from torch import nn

import flatconv
from tests.expected import agree, filled, folded, form, only_site, operators, sample
from tests.pairs import pairs_of, pairwise

OPTIONS = {
    "transposed": (False, True),
    "kernel": ((1, 3, 3), (2, 3, 2), (3, 3, 3), (3, 1, 2), (4, 2, 1), (5, 1, 1)),
    "stride": (1, 2, (2, 1, 1), (1, 2, 3), (3, 1, 2)),
    "padding": (0, 1, 2, (1, 0, 0), (2, 1, 0), "same", "valid", "front"),
    "padding_mode": ("zeros", "replicate", "reflect", "circular"),
    "dilation": (1, (2, 1, 1), (1, 2, 1), (3, 1, 2)),
    "groups": (1, 2, 4),
    "bias": (True, False),
    "batch": (None, 1, 2, 3),
    "depth": (1, 2, 3, 4, "kernel", "kernel + 1"),
    "plane": ((5, 6), (6, 4), (3, 3), (1, 5)),
    "output_padding": (0, 1, (1, 0, 0)),
    "weights": ("folded", "shared"),
    "dynamic": (False, "auto"),
    "verify": (False, True),
}


def three(value):
    return value if isinstance(value, tuple) else (value,) * 3


def sizes(row):
    """Sizes of the input, and the padding in front and behind of every axis; None if torch refuses the row."""
    kernel, stride, dilation = row["kernel"], three(row["stride"]), three(row["dilation"])
    depth = row["depth"]
    depth = {"kernel": kernel[0], "kernel + 1": kernel[0] + 1}.get(depth, depth)
    size = (depth, *row["plane"])
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = row["padding"]
    if row["transposed"]:
        extra = three(row["output_padding"])
        if padding in ("same", "valid", "front") or row["padding_mode"] != "zeros":
            return None
        if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
            return None
        out = [
            (n - 1) * s - 2 * p + r + e + 1
            for n, s, p, r, e in zip(size, stride, three(padding), reach, extra, strict=True)
        ]
        return (size, [(p, p) for p in three(padding)]) if min(out) > 0 else None
    if row["output_padding"]:
        return None
    if padding == "same":
        if stride != (1, 1, 1):
            return None
        sides = [(r // 2, r - r // 2) for r in reach]
    elif padding in ("valid", "front"):
        sides = [(0, 0)] * 3
    else:
        sides = [(p, p) for p in three(padding)]
    most = {"zeros": 9, "replicate": 9, "reflect": -1, "circular": 0}[row["padding_mode"]]
    if most < 9 and any(max(side) > n + most for side, n in zip(sides, size, strict=True)):
        return None
    if padding == "front":
        sides = [(2, 0), *sides[1:]]
    if any(n + sum(side) < r + 1 for n, side, r in zip(size, sides, reach, strict=True)):
        return None
    return size, sides


ROWS = [row for seed in (0, 1) for row in pairwise(OPTIONS, lambda row: sizes(row) is not None, seed)]


def network(row):
    chosen = {k: row[k] for k in ("stride", "dilation", "groups", "bias")}
    if row["transposed"]:
        return nn.ConvTranspose3d(
            4, 4, row["kernel"], padding=row["padding"], output_padding=row["output_padding"], **chosen
        )
    if row["padding"] == "front":
        pad = nn.ConstantPad3d((0, 0, 0, 0, 2, 0), 0) if row["padding_mode"] == "zeros" else None
        pad = pad or nn.ReplicationPad3d((0, 0, 0, 0, 2, 0))
        return nn.Sequential(pad, nn.Conv3d(4, 8, row["kernel"], **chosen))
    return nn.Conv3d(4, 8, row["kernel"], padding=row["padding"], padding_mode=row["padding_mode"], **chosen)


def words(row):
    return "-".join(f"{k[:3]}{v}" for k, v in row.items() if v not in (False, None)).replace(" ", "")


def live_by_trial(net, x):
    """The taps along depth that the result depends on, found by taking each out."""
    (weight,) = (p for p in net.parameters() if p.dim() == 5)
    found = []
    with torch.no_grad():
        whole = net(x)
        for tap in range(weight.shape[2]):
            kept = weight[:, :, tap].clone()
            weight[:, :, tap] = 0
            if not torch.equal(net(x), whole):
                found.append(tap)
            weight[:, :, tap] = kept
    return tuple(found)


@pytest.mark.parametrize("row", ROWS, ids=words)
def test_equals_eager(row):
    size, sides = sizes(row)
    net = filled(network(row))
    x = sample(*([] if row["batch"] is None else [row["batch"]]), 4, *size)
    flat = folded(net, x, **{k: row[k] for k in ("weights", "dynamic", "verify")})
    # `folded` has compared shape, dtype and values; what is left is what was said and done.
    site = only_site(flat)
    assert site.live_taps == live_by_trial(net, x)
    assert sorted(site.live_taps + site.dead_taps) == list(range(row["kernel"][0]))
    if size[0] == 1 and reads_once(row, sides[0]):
        assert not {"conv3d", "conv_transpose3d"} & set(operators(flat))
        assert site.becomes != site.op
    if row["weights"] == "shared":
        assert all(flat.get_parameter(name) is p for name, p in net.named_parameters())
    if "x.shape[0]" in flat.report.free or "input.shape[0]" in flat.report.free:
        other = sample(*((5,) if x.dim() == 5 else ()), *x.shape[-4:], seed=3)
        with torch.no_grad():
            agree(flat(other), net(other))


def reads_once(row, side):
    """Whether a single slice in gives results that are all alike, so that one of them is enough."""
    if row["padding_mode"] != "zeros":
        return True  # every slice is a copy of the one
    kernel, stride, dilation = row["kernel"][0], three(row["stride"])[0], three(row["dilation"])[0]
    lo, hi = side
    if row["transposed"]:
        count = dilation * (kernel - 1) - lo - hi + three(row["output_padding"])[0] + 1
        taps = [[t for t in range(kernel) if o + lo == t * dilation] for o in range(count)]
    else:
        count = (lo + hi - dilation * (kernel - 1)) // stride + 1
        taps = [[t for t in range(kernel) if o * stride - lo + t * dilation == 0] for o in range(count)]
    read = [t for t in taps if t]
    return len(read) == 1 and (count == 1 or not row["bias"])


def test_every_pair_is_there():
    """The rows are valid, and hold every pair of the options that never exclude each other."""
    held = set(itertools.chain.from_iterable(pairs_of(row) for row in ROWS))
    assert all(sizes(row) is not None for row in ROWS)
    for name, values in OPTIONS.items():
        for value in values:
            assert any(row[name] == value for row in ROWS), (name, value)
    unbound = ("kernel", "groups", "bias", "batch", "depth", "plane", "weights", "dynamic")
    for a, b in itertools.combinations(unbound, 2):
        for x, y in itertools.product(OPTIONS[a], OPTIONS[b]):
            assert ((a, x), (b, y)) in held


# --- the cases that the article names


def test_a_cubic_kernel_on_one_slice_keeps_its_middle_tap():
    net = filled(nn.Conv3d(3, 16, (3, 3, 3), padding="same"), dtype=torch.float32)
    x = sample(1, 3, 1, 64, 64, dtype=torch.float32)
    flat = flatconv.fold(net, (x,))
    site = only_site(flat)
    assert (site.live_taps, site.dead_taps) == ((1,), (0, 2))
    assert (site.op, site.becomes) == ("conv3d", "conv2d")
    assert site.reason == "taps 0, 2 meet only zeros: zero padding of the convolution itself, 1 on each side"
    assert (site.macs, site.useful_macs) == (3 * 16 * 27 * 64 * 64, 3 * 16 * 9 * 64 * 64)
    assert form(flat) == [
        ("squeeze.dims", "input", [2]),
        ("conv2d.default", "#0", "weight", "bias", [1, 1], [1, 1], [1, 1], 1),
        ("unsqueeze.default", "#1", 2),
        ("return", "#2"),
    ]
    assert torch.equal(flat.weight, net.weight[:, :, 1])
    assert site.evidence.level == "exact"


def test_a_flat_kernel_on_one_slice_has_no_dead_tap():
    net = filled(nn.Conv3d(3, 16, (1, 3, 3), padding="same"), dtype=torch.float32)
    flat = flatconv.fold(net, (sample(1, 3, 1, 64, 64, dtype=torch.float32),))
    site = only_site(flat)
    assert (site.live_taps, site.dead_taps, site.merged_taps) == ((0,), (), ())
    assert site.reason == "every tap meets data"
    assert site.becomes == "conv2d"
    assert site.macs == site.useful_macs


def test_five_slices_under_three_taps_lose_nothing():
    net = filled(nn.Conv3d(3, 16, (3, 3, 3), padding="same"))
    flat = folded(net, sample(1, 3, 5, 8, 9))
    site = only_site(flat)
    assert (site.live_taps, site.dead_taps) == ((0, 1, 2), ())
    assert site.rule == ()
    assert form(flat) == [
        ("conv3d.padding", "input", "weight", "bias", [1, 1, 1], "same"),
        ("return", "#0"),
    ]


@pytest.mark.parametrize(("kernel", "depth"), [(k, d) for k in (2, 3, 4, 5, 7) for d in range(1, k + 2)])
def test_fewer_slices_than_taps(kernel, depth):
    net = filled(nn.Conv3d(2, 3, (kernel, 1, 1), padding="same"))
    x = sample(1, 2, depth, 2, 3)
    flat = folded(net, x)
    # Tap t meets slice o + t - front: it is live if some result reaches a slice with it.
    front = (kernel - 1) // 2
    live = tuple(t for t in range(kernel) if any(0 <= o + t - front < depth for o in range(depth)))
    assert only_site(flat).live_taps == live == live_by_trial(net, x)
    assert flat.weight.shape[2 if depth > 1 else 1 :].numel() == (len(live) if depth > 1 else 2)


@pytest.mark.parametrize(
    ("mode", "taps"),
    [("zeros", (2,)), ("replicate", (0, 1, 2)), ("both", (1,))],
    ids=["causal", "replicate", "centred"],
)
def test_the_padding_rule_decides_which_taps_are_kept(mode, taps):
    if mode == "both":
        net = nn.Conv3d(2, 3, 3, padding=1)
    else:
        sides = (1, 1, 1, 1, 2, 0)
        pad = nn.ConstantPad3d(sides, 0) if mode == "zeros" else nn.ReplicationPad3d(sides)
        net = nn.Sequential(pad, nn.Conv3d(2, 3, 3))
    net = filled(net)
    flat = folded(net, sample(1, 2, 1, 4, 5))
    assert only_site(flat).live_taps == taps
    (given,) = (p for p in flat.parameters() if p.dim() > 1)
    (kept,) = (p for p in net.parameters() if p.dim() > 1)
    torch.testing.assert_close(given, kept[:, :, list(taps)].sum(2))
