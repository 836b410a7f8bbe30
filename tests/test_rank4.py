"""Programs of rank four: the same values, nothing above, or every reason."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatconv
from flatconv.examples import patch_embed
from tests.expected import Net, agree, filled, sample

X = sample(2, 2, 1, 6, 5)


def ranks(flat, tensors):
    """Of everything that the program makes, as real runs show it."""
    found = []

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            found.extend(t.dim() for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor))
            return result

    given = flat.boundary.enter(tensors)
    found += [t.dim() for t in given]
    with torch.no_grad(), Watching():
        flat.run_flat(*given)
    return found + [t.dim() for t in flat.state_dict().values()]


def check(model, *tensors, **options):
    flat = flatconv.fold(model, tensors, rank4=True, **options)
    for given in (tensors, [t.flip(0) for t in tensors]):
        with torch.no_grad():
            agree(flat(*given), model(*given))
        assert max(ranks(flat, given)) <= 4
    return flat


def image_net():
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Upsample(scale_factor=(1, 2, 2)),
        nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0), padding_mode="replicate"),
    )  # fmt: skip


def test_an_image_network():
    flat = check(filled(image_net()), X)
    assert flat.boundary.dropped == ((2,),)
    assert flat.boundary.restored == ((2,),)
    targets = [str(n.target) for n in flat.graph.nodes if n.op == "call_function"]
    assert "aten.squeeze.dims" not in targets
    assert "aten.unsqueeze.default" not in targets


def test_other_sizes_are_taken():
    model = filled(image_net())
    flat = check(model, X)
    other = sample(3, 2, 1, 8, 7)
    with torch.no_grad():
        agree(flat(other), model(other))


def test_a_patch_embedding_has_rank_two():
    model = patch_embed().double()
    flat = check(model, sample(5, 1176))
    assert max(ranks(flat, [sample(5, 1176)])) == 2


def test_several_inputs_and_outputs():
    model = filled(Net(lambda s, x, y: (s.conv(x) + y, y[:, 0], x * 2), conv=nn.Conv3d(2, 2, 3, padding=1)))
    check(model, X, sample(2, 2, 1, 1, 5))


def test_an_input_that_nothing_reads():
    check(filled(Net(lambda s, x, y: s.conv(x), conv=nn.Conv3d(2, 2, 3, padding=1))), X, X)


def test_sizes_that_are_read():
    model = Net(
        lambda s, x: F.interpolate(s.conv(x), size=(1, 2 * x.shape[3], x.shape[4] + 1)),
        conv=nn.Conv3d(2, 2, 3, padding=1),
    )
    check(filled(model), X)


def test_channels_last_results_and_copies():
    check(filled(Net(lambda s, x: s.conv(x).clone(), conv=nn.Conv3d(2, 2, 3, padding=1))), X)
    check(filled(Net(lambda s, x: s.conv(x).transpose(3, 4).contiguous(), conv=nn.Conv3d(2, 2, 3, padding=1))), X)


REFUSED = {
    "real depth": (Net(lambda s, x: s.conv(x), conv=nn.Conv3d(2, 2, 3, padding=1)), (2, 2, 3, 6, 5), "is read whole by"),
    "an unknown operator": (
        Net(lambda s, x: torch.cumsum(s.conv(x), 2), conv=nn.Conv3d(2, 2, 3, padding=1)), (2, 2, 1, 6, 5), "cumsum makes"
    ),
    "frames as results": (
        Net(lambda s, x: s.conv(x).repeat(1, 1, 3, 1, 1), conv=nn.Conv3d(2, 2, 3, padding=1)), (2, 2, 1, 6, 5), "makes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_reasons(case):
    model, shape, words = REFUSED[case]
    with pytest.raises(flatconv.RefusedError, match="tensors of rank above 4 are left") as raised:
        flatconv.fold(filled(model), (sample(*shape),), rank4=True)
    assert words in str(raised.value)


def test_what_keeps_the_rank_is_refused():
    with pytest.raises(flatconv.RefusedError, match="weights='shared'"):
        flatconv.fold(filled(image_net()), (X,), rank4=True, weights="shared")


def test_moves_copies_and_weights():
    model = filled(image_net())
    flat = check(model, X)
    import copy

    again = copy.deepcopy(flat)
    flat.to("cpu")
    with torch.no_grad():
        agree(again(X), model(X))
        agree(flat(X), model(X))
    with pytest.raises(flatconv.GuardError, match="axis 2 must be 1, not 3"):
        flat(sample(2, 2, 3, 6, 5))
