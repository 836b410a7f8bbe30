"""Keras models on torch: the fold computes what ``predict`` does, and nothing of the model changes."""

import os

import numpy as np
import pytest
import torch

import flatconv

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "torch":
    pytest.skip("keras runs on another backend in this process", allow_module_level=True)

from flatconv.integrations.keras import fold  # noqa: E402

layers = keras.layers


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
    keras.utils.clear_session()  # names of layers begin anew


def unet(size=(1, 16, 20, 3)):
    scan = keras.Input(size, name="scan")
    fine = layers.BatchNormalization()(layers.Conv3D(8, 3, padding="same", activation="relu")(scan))
    coarse = layers.Conv3D(8, (1, 3, 3), strides=(1, 2, 2), padding="same")(fine)
    back = layers.Conv3DTranspose(8, (1, 2, 2), strides=(1, 2, 2))(coarse)
    return keras.Model(scan, layers.Conv3D(2, 1, name="out")(layers.Dropout(0.5)(layers.Concatenate()([fine, back]))))


def small(size=(1, 16, 20, 3), random=True):
    scan = keras.Input(size, name="scan")
    y = layers.BatchNormalization()(layers.Conv3D(4, 3, padding="same", activation="relu")(scan))
    return keras.Model(scan, layers.Conv3D(2, 1)(layers.Dropout(0.5)(y) if random else y))


def trained(model):
    """Statistics that are not those of a new model."""
    model.set_weights([w + np.abs(np.random.default_rng(0).normal(size=w.shape)) * 0.1 for w in model.get_weights()])
    return model


def noise(*sizes):
    return torch.randn(sizes, generator=torch.Generator().manual_seed(1))


def close(found, model, x):
    wanted = torch.from_numpy(model.predict(x, verbose=0))
    assert wanted.std() > 0
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-5)


def operators(flat):
    return {str(n.target) for n in flat.graph.nodes if n.op == "call_function"}


def test_what_predict_computes():
    model = trained(unet())
    before = [w.copy() for w in model.get_weights()]
    assert model.training  # as torch has it; Keras goes by an argument
    flat = fold(model)
    assert model.training
    assert not any("3d" in op for op in operators(flat))
    assert {s.name: s.live_taps for s in flat.report.sites} == {
        "layers.conv3d": (1,), "layers.conv3d_1": (0,), "layers.conv3d_transpose": (0,), "layers.out": (0,),
    }  # fmt: skip
    assert flat.report.evidence.float64_error < 1e-10
    for batch in (1, 5):
        close(flat(noise(batch, 1, 16, 20, 3)), model, noise(batch, 1, 16, 20, 3))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_sizes_that_the_model_leaves_open():
    model = trained(small((1, None, None, 3)))
    with pytest.raises(
        flatconv.InputError, match=r"input 'scan' are \(1, None, None, 3\).* a number above zero for each"
    ):
        fold(model)
    flat = fold(model, (1, 24, 12, 3))
    close(flat(noise(2, 1, 24, 12, 3)), model, noise(2, 1, 24, 12, 3))
    # Here only the batch is free; another height is refused and not computed in another way.
    with pytest.raises(flatconv.GuardError):
        flat(noise(2, 1, 16, 12, 3))
    close(fold(model, [1, 8, 8, 3], batch=3, dynamic=False)(noise(3, 1, 8, 8, 3)), model, noise(3, 1, 8, 8, 3))


@pytest.mark.parametrize(
    "sizes",
    [(2, 16, 20, 3), (16, 20, 3), (1, 1, 16, 20, 3), (1, 16, 20, -3), (1, 16, 20, 3.0), (1, None, 20, 3), 16, "1x16",
     {"scan": 1}],
)  # fmt: skip
def test_sizes_that_are_not_the_models(sizes):
    with pytest.raises(flatconv.InputError, match=r"input 'scan' are .*the model says \(1, 16, 20, 3\): pass sizes"):
        fold(small(), sizes)


@pytest.mark.parametrize("batch", [0, -1, 1.0, None])
def test_batches_of_none(batch):
    with pytest.raises(flatconv.InputError, match=r"batch is .*: the number of volumes"):
        fold(small(), batch=batch)


def test_inputs_of_text():
    scan, text = keras.Input((1, 8, 8, 2), name="scan"), keras.Input((1,), name="text", dtype="string")
    model = keras.Model([scan, text], layers.Conv3D(2, 3, padding="same")(scan))
    with pytest.raises(flatconv.InputError, match="input 'text' is of type string, which torch does not have"):
        fold(model)


def test_several_inputs():
    a, b = keras.Input((1, None, 8, 2), name="a"), keras.Input((1, 8, 8, 1), name="b", dtype="uint8")
    y = layers.Conv3D(3, 3, padding="same")(layers.Concatenate()([a, layers.Rescaling(1 / 255)(b)]))
    x = {"a": noise(2, 1, 8, 8, 2), "b": torch.randint(0, 255, (2, 1, 8, 8, 1), dtype=torch.uint8)}
    for form, given in (({"a": a, "b": b}, x), ([b, a], [x["b"], x["a"]])):
        model = keras.Model(form, y)
        close(fold(model, {"a": (1, 8, 8, 2)})(given), model, given)
        with pytest.raises(flatconv.InputError, match=r"for 2 inputs: name the input, one of .*b \(1, 8, 8, 1\)"):
            fold(model, (1, 8, 8, 2))
        with pytest.raises(flatconv.InputError, match="sizes name 'c'; the inputs of the model are "):
            fold(model, {"c": (1, 8, 8, 2)})
    single = keras.Model([b], layers.Conv3D(2, 3)(layers.ZeroPadding3D(1)(layers.Rescaling(1 / 255)(b))))
    close(fold(single)(x["b"]), single, x["b"])


def test_more_slices_stay_three_dimensional():
    model = trained(small((2, 8, 8, 3)))
    flat = fold(model, dynamic=False)
    assert flat.report.sites[0].live_taps == (0, 1, 2)
    close(flat(noise(1, 2, 8, 8, 3)), model, noise(1, 2, 8, 8, 3))


def test_channels_first_leave_height_and_width_free():
    scan = keras.Input((2, 1, None, None))
    model = keras.Model(scan, layers.Conv3D(3, 3, padding="same", data_format="channels_first")(scan))
    flat = fold(model, (2, 1, 12, 16))
    x = noise(3, 2, 1, 20, 8)
    torch.testing.assert_close(flat(x), model(x))  # Keras has no predict of this layout on processors


def test_mixed_precision_and_a_call_of_its_own():
    class Doubled(keras.Model):
        def __call__(self, *args, **kwargs):
            return 2 * super().__call__(*args, **kwargs)

    scan, x = keras.Input((1, 8, 8, 2)), noise(2, 1, 8, 8, 2)
    model = Doubled(scan, layers.Conv3D(3, 3, padding="same")(scan))
    torch.testing.assert_close(fold(model)(x), model(x))
    half = keras.Model(scan, layers.Conv3D(3, 3, padding="same", dtype="mixed_bfloat16")(scan))
    found, wanted = fold(half)(x), half(x)
    assert found.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted)


def test_parts_in_torch_keep_their_mode_and_their_statistics():
    norm = torch.nn.BatchNorm3d(4)
    scan = keras.Input((1, 8, 8, 2))
    inner = layers.Permute((4, 1, 2, 3))(layers.Conv3D(4, 3, padding="same")(scan))
    model = keras.Model(scan, layers.TorchModuleWrapper(norm, output_shape=inner.shape)(inner))
    norm.running_mean += torch.arange(4.0)
    before = norm.running_mean.clone()
    flat = fold(model)
    assert norm.training
    assert torch.equal(norm.running_mean, before)
    close(flat(noise(2, 1, 8, 8, 2)), model, noise(2, 1, 8, 8, 2))


def test_shared_weights_follow_the_model():
    with pytest.raises(flatconv.RefusedError, match="so that weights='shared' cannot follow it"):
        fold(small(), weights="shared", dynamic=False)
    model, x = small(random=False), noise(2, 1, 16, 20, 3)
    how = {"batch": 2, "dynamic": False}
    flat, apart = fold(model, weights="shared", **how), fold(model, **how)
    old = apart(x)
    trained(model)
    close(flat(x), model, x)
    assert torch.equal(apart(x), old)
    assert not torch.allclose(flat(x), old)


def test_names_of_layers_that_torch_would_not_take():
    scan = keras.Input((1, 8, 8, 2))
    y = layers.Conv3D(3, 3, padding="same", name="forward")(scan)
    y = layers.ReLU(name="a.b")(layers.Conv3D(3, 3, padding="same", name="children")(y))
    model = keras.Model(scan, y)
    flat = fold(model, dynamic=False)
    assert [s.name for s in flat.report.sites] == ["layers.forward_", "layers.children_"]
    close(flat(noise(1, 1, 8, 8, 2)), model, noise(1, 1, 8, 8, 2))


def test_the_fold_as_a_keras_model():
    model, x = trained(small()), np.random.default_rng(0).normal(size=(5, 1, 16, 20, 3)).astype("float32")
    layer = layers.TorchModuleWrapper(fold(model), output_shape=model.output_shape)
    folded = keras.Sequential([keras.Input(model.input_shape[1:]), layer])
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(folded.predict(x, batch_size=2, verbose=0), wanted, rtol=1e-4, atol=1e-5)


def test_keras_models_are_not_patched_in_place():
    # Their layers are no registered submodules, so nothing would notice that one of them was changed. If this ever works,
    # the docs say the opposite.
    with pytest.raises(flatconv.RefusedError, match="which is in none of its registered modules"):
        flatconv.patch(small(), {"forward": (noise(1, 1, 16, 20, 3),)})


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv3D(2, 3, padding="same")

    def call(self, x):
        return self.conv(x)


@pytest.mark.parametrize(
    "build",
    [Subclassed, lambda: keras.Sequential([layers.Conv3D(2, 3)]), lambda: layers.Conv3D(2, 3),
     lambda: torch.nn.Conv3d(1, 1, 1)],
)  # fmt: skip
def test_models_whose_inputs_are_not_known(build):
    with pytest.raises(flatconv.InputError, match=r"is no functional or sequential keras.Model that was built"):
        fold(build())


def test_a_sequential_model():
    model = keras.Sequential([layers.Conv3D(2, 3, padding="same"), layers.LayerNormalization()])
    model.build((None, 1, 8, 8, 2))
    close(fold(model)(noise(3, 1, 8, 8, 2)), model, noise(3, 1, 8, 8, 2))


def test_other_backends(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(flatconv.InputError, match=r"Keras runs on jax here.*KERAS_BACKEND=torch before"):
        fold(object())


def test_without_keras(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras", None)
    with pytest.raises(
        flatconv.FlatconvError, match=r"'keras', which is not installed: pip install 'flatconv\[keras\]'"
    ):
        fold(torch.nn.Conv3d(1, 1, 1))
