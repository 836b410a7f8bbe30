"""What looks bad and is supported: the fold gives what the original gives, at the example and at another input."""

import warnings

import pytest
import torch
from torch.utils import _pytree as pytree

import flatconv
from tests.bad.fine import TABLE
from tests.bad.table import nothing_happens


def same(ours, theirs):
    left, right = (
        pytree.tree_leaves(v.__dict__ if hasattr(v, "__dict__") and not torch.is_tensor(v) else v)
        for v in (ours, theirs)
    )
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype
            tolerance = 2e-2 if a.dtype in (torch.float16, torch.bfloat16) else 1e-5
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        elif hasattr(a, "__dict__"):
            same(a, b)
        else:
            assert a == b
            assert type(a) is type(b)


@pytest.mark.parametrize("make", [m for _, m in TABLE], ids=[n for n, _ in TABLE])
def test_folded_right(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    with warnings.catch_warnings(), nothing_happens(tmp_path):
        warnings.simplefilter("ignore")
        model, args, options = make()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        flat = flatconv.fold(model, args, **({"dynamic": False} | options))
        assert any(s.becomes == "conv2d" for s in flat.report.sites)
        assert str(flat.report).replace("\n", "").isprintable()
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        args = (args,) if isinstance(args, torch.Tensor) else args
        kwargs = options.get("kwargs", {})
        other = pytree.tree_map_only(torch.Tensor, lambda t: torch.randn(t.shape, dtype=t.dtype), args)
        for given in (args, other):
            if all(bool(t.isfinite().all()) for t in pytree.tree_leaves(given) if isinstance(t, torch.Tensor)):
                same(flat(*given, **kwargs), model(*given, **kwargs))


@pytest.mark.parametrize("folded_inside", [True, False])
def test_autocast_around_the_call_does_what_it_does_to_the_original(folded_inside):
    torch.manual_seed(0)
    model, x = torch.nn.Conv3d(3, 4, 3, padding=1).eval(), torch.randn(1, 3, 1, 8, 9)
    with torch.autocast("cpu", torch.bfloat16, enabled=folded_inside):
        flat = flatconv.fold(model, (x,), dynamic=False, verify=False)
    for inside in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            same(flat(x), model(x))
