"""A Keras model of channels-last volumes on single slices: ``predict`` of the fold gives what ``predict`` of the model gives.

    python examples/use_keras.py

Its weights mean nothing. Needs ``flatconv[keras]``.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # before keras is imported

import keras
import numpy as np
from keras import layers

from flatconv.integrations.keras import fold

keras.utils.set_random_seed(0)
scan = keras.Input((1, None, None, 2), name="scan")
fine = layers.Conv3D(8, 3, padding="same", activation="relu")(scan)
coarse = layers.Conv3D(16, 3, strides=(1, 2, 2), padding="same", activation="relu")(fine)
back = layers.Conv3DTranspose(8, (1, 2, 2), strides=(1, 2, 2))(coarse)
classes = layers.Conv3D(2, 1, activation="softmax")(layers.Concatenate()([fine, back]))
model = keras.Model(scan, classes)

# A slice of 64×96 pixels in two contrasts; any number of them.
size = (1, 64, 96, 2)
flat = fold(model, size)
for site in flat.report.sites:
    print(
        f"{site.name}: {site.op} becomes {site.becomes}, of kernel {site.kernel} the depths {site.live_taps} meet data"
    )

# A Keras model again, with predict.
folded = keras.Sequential([keras.Input(size), layers.TorchModuleWrapper(flat, output_shape=model.output_shape)])
slices = np.random.default_rng(0).normal(size=(5, *size)).astype("float32")
before, after = (m.predict(slices, batch_size=2, verbose=0) for m in (model, folded))
print(f"{after.shape}, largest difference {np.abs(after - before).max():.1e}")
