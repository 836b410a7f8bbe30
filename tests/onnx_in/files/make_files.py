"""Writes the files in this folder. Needs tensorflow, keras and tf2onnx."""

from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

HERE = Path(__file__).parent
L = keras.layers


def segmentation(depth):
    x = given = keras.Input((depth, 32, 32, 3))
    x = L.Conv3D(8, 3, padding="same")(x)
    x = L.BatchNormalization()(x)
    x = skip = L.ReLU()(x)
    x = L.Conv3D(12, 3, strides=(1, 2, 2), padding="same", activation="relu")(x)
    x = L.Conv3D(12, 3, padding="same", activation="swish")(x)
    x = L.Conv3DTranspose(8, (3, 2, 2), strides=(1, 2, 2), padding="same")(x)
    x = L.Concatenate()([x, skip])
    x = L.Conv3D(2, 1)(x)
    return keras.Model(given, L.Softmax()(x))


def classifier():
    x = given = keras.Input((1, 32, 32, 1))
    for channels in (8, 16):
        x = L.Conv3D(channels, 3, padding="same", activation="relu")(x)
        x = L.MaxPool3D((1, 2, 2))(x)
        x = L.UpSampling3D((1, 2, 2))(x)
        x = L.AveragePooling3D((1, 2, 2), padding="same")(x)
    return keras.Model(given, L.Dense(5)(L.GlobalAveragePooling3D()(x)))


def write(model, name, batch, opset):
    noise = np.random.default_rng(1)
    for weight in model.weights:
        if any(w in weight.path for w in ("moving", "gamma", "beta")):
            weight.assign(noise.uniform(0.5, 1.5, weight.shape))
    shape = (batch, *model.inputs[0].shape[1:])
    call = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])
    made, _ = tf2onnx.convert.from_function(call, input_signature=call.input_signature, opset=opset)
    onnx.save(made, HERE / name)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    write(segmentation(1), "keras_depth_1.onnx", None, 17)
    write(segmentation(4), "keras_depth_4.onnx", 1, 17)
    write(classifier(), "keras_classifier.onnx", None, 13)
