#!/usr/bin/env python3
"""Writes the reference network for `cargo bench`, with the same random weights for both engines:
reference.onnx for ONNX Runtime and reference.safetensors for ours.

    pip install numpy onnx onnxruntime safetensors
    python benches/peers/reference.py target/peers
"""
import os
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from safetensors.numpy import save_file

# name, channels in and out, kernel; "pool" rows give the pooling window [time, frequency].
LAYERS = [
    ("c1", 1, 32, (3, 3)), ("c2", 32, 32, (3, 3)), ("pool", 2, 2),
    ("c3", 32, 64, (3, 3)), ("c4", 64, 64, (3, 3)), ("pool", 2, 2),
    ("c5", 64, 128, (3, 3)), ("c6", 128, 128, (3, 3)), ("pool", 1, 2),
    ("c7", 128, 128, (3, 3)), ("c8", 128, 128, (3, 3)), ("pool", 1, 2),
]
rng = np.random.default_rng(1)
nodes, initializers, weights = [], [], {}


def constant(name, value):
    initializers.append(numpy_helper.from_array(value, name))
    return name


def convolution(x, name, depth, channels, kernel, pads):
    w = (rng.normal(size=(channels, depth, *kernel)) * np.sqrt(2 / (depth * np.prod(kernel)))).astype(np.float32)
    b = rng.normal(size=channels).astype(np.float32) * 0.01
    weights[f"{name}.weight"], weights[f"{name}.bias"] = w, b
    names = [x, constant(f"{name}.weight", w), constant(f"{name}.bias", b)]
    nodes.append(helper.make_node("Conv", names, [name], kernel_shape=kernel, pads=pads))
    return name


def relu(x):
    nodes.append(helper.make_node("Relu", [x], [f"{x}-relu"]))
    return f"{x}-relu"


x = "frames"
for index, (name, *rest) in enumerate(LAYERS):
    if name == "pool":
        nodes.append(helper.make_node("MaxPool", [x], [f"pool{index}"], kernel_shape=rest, strides=rest))
        x = f"pool{index}"
    else:
        x = relu(convolution(x, name, *rest, pads=[1, 1, 1, 1]))
# [1, 128, time, 5] to [1, 640, time, 1], index channel · 5 + bin.
nodes.append(helper.make_node("Transpose", [x], ["turned"], perm=[0, 1, 3, 2]))
nodes.append(helper.make_node("Reshape", ["turned", constant("shape", np.array([1, 640, -1, 1]))], ["collapse"]))
x = relu(convolution("collapse", "t", 640, 256, (9, 1), pads=[4, 0, 4, 0]))
x = convolution(x, "out", 256, 32, (1, 1), pads=[0, 0, 0, 0])
nodes.append(helper.make_node("LogSoftmax", [x], ["log_probs"], axis=1))
graph = helper.make_graph(
    nodes, "reference",
    [helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, 1, "time", 80])],
    [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, [1, 32, "steps", 1])],
    initializers)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 9
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
save(model, f"{folder}/reference.onnx")
save_file(weights, f"{folder}/reference.safetensors")
