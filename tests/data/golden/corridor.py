#!/usr/bin/env python3
"""Makes corridor.npy: log-probabilities [steps, classes] of the bootstrap model for audio/harbour.wav, by numpy
in f64 for the features (the definition in tests/data/bootstrap/README.md) and PyTorch in f64 for the layers.

    pip install numpy torch safetensors
    python tests/data/golden/corridor.py
"""
import pathlib
import tomllib
import wave

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

here = pathlib.Path(__file__).resolve().parent
project = here.parents[2]
bundle = project / "tests/data/bootstrap"
recipe = tomllib.loads((bundle / "model.toml").read_text())
weights = {k: torch.tensor(v.astype(np.float64)) for k, v in load_file(bundle / "weights.safetensors").items()}

with wave.open(str(project / "audio/harbour.wav")) as f:
    assert (f.getframerate(), f.getnchannels(), f.getsampwidth()) == (16000, 1, 2)
    x = np.frombuffer(f.readframes(f.getnframes()), "<i2") / 32768.0

# Log-mel features.
frames = np.stack([x[t : t + 400] for t in range(0, len(x) - 399, 160)])
window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
power = np.abs(np.fft.rfft(frames * window, 512)) ** 2
mel = lambda hz: 2595 * np.log10(1 + hz / 700)
edges = 700 * (10 ** (np.linspace(mel(20), mel(7600), 82) / 2595) - 1)
bins = np.arange(257) * 16000 / 512
low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
bank = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
for row, hz in zip(bank, edges[1:-1]):
    if row.sum() < 1e-3:
        row[np.argmin(np.abs(bins - hz))] = 1
image = torch.tensor(np.log(power @ bank.T + 1e-6))
image = (image - weights["spectrogram.mean"]) / weights["spectrogram.std"]


def run(x, layers, prefix=""):
    """x: [1, channels, time, frequency]."""
    for layer in layers:
        path = prefix + layer["name"]
        get = lambda name: weights[f"{path}.{name}"]
        match layer["kind"]:
            case "convolution":
                time, freq = layer.get("time_padding", {}), layer.get("frequency_padding", {})
                pads = (freq.get("low", 0), freq.get("high", 0), time.get("past", 0), time.get("future", 0))
                bias = get("bias") if layer.get("bias", True) else None
                x = F.conv2d(F.pad(x, pads), get("weight"), bias, layer.get("stride", 1), 0, 1, layer.get("groups", 1))
            case "batch-norm":
                x = F.batch_norm(x, get("running_mean"), get("running_var"), get("weight"), get("bias"), eps=1e-5)
            case "activation":
                assert layer["function"] == "relu"
                x = F.relu(x)
            case "max-pool":
                x = F.max_pool2d(x, layer["kernel"])
            case "frequency-collapse":
                x = x.permute(0, 1, 3, 2).flatten(1, 2).unsqueeze(3)
            case "residual":
                x = x + run(x, layer["branch"], path + ".")
            case "log-softmax":
                x = F.log_softmax(x, 1)
            case kind:
                raise ValueError(kind)
    return x


log_probs = run(image[None, None], recipe["layers"])[0, :, :, 0].T
np.save(here / "corridor.npy", log_probs.numpy().astype(np.float32))
print(tuple(log_probs.shape))
