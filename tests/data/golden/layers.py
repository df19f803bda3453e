#!/usr/bin/env python3
"""Writes layers.safetensors: what PyTorch makes of the network in layers.toml, the reference of tests/layers.

For a batch of utterances of different lengths in training mode: `input`, `output`, the gradients of
`Σ factors · output` with respect to the input and to every parameter, and the running statistics afterwards. Dropout is
left out.
    python3 tests/data/golden/layers.py    (needs torch, safetensors)
"""

import tomllib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

LENGTHS, BINS, CHANNELS = [24, 9, 41], 8, 1
here = Path(__file__).parent
torch.manual_seed(1)
parameters, running = {}, {}


def parameter(path, *shape, scale, centre=0.0):
    if path not in parameters:
        values = centre + scale * torch.randn(*shape)
        parameters[path] = values.clone().requires_grad_()
    return parameters[path].double()


def pad(x, layer, value=0.0):
    time, frequency = layer.get("time_padding", {}), layer.get("frequency_padding", {})
    sides = (frequency.get("low", 0), frequency.get("high", 0), time.get("past", 0), time.get("future", 0))
    return F.pad(x, sides, value=value)


def activate(x, layer):
    match layer["function"]:
        case "relu": return F.relu(x)
        case "leaky-relu": return F.leaky_relu(x, layer["slope"])
        case "silu": return F.silu(x)
        case "gelu": return F.gelu(x, approximate="tanh")
        case "tanh": return torch.tanh(x)


def run(layers, prefix, batch):
    """`batch`: a tensor [1, channels, time, frequency] per utterance."""
    for layer in layers:
        path, channels = prefix + layer["name"], batch[0].shape[1]
        match layer["kind"]:
            case "convolution":
                out, groups, kernel = layer["out_channels"], layer.get("groups", 1), layer["kernel"]
                fan_in = channels // groups * kernel[0] * kernel[1]
                w = parameter(path + ".weight", out, channels // groups, *kernel, scale=(2 / fan_in) ** 0.5)
                b = parameter(path + ".bias", out, scale=0.3) if layer.get("bias", True) else None
                settings = dict(stride=layer.get("stride", 1), dilation=layer.get("dilation", 1), groups=groups)
                batch = [F.conv2d(pad(x, layer), w, b, **settings) for x in batch]
            case "batch-norm":
                w = parameter(path + ".weight", channels, scale=0.2, centre=1.0)
                b = parameter(path + ".bias", channels, scale=0.3)
                mean, var = torch.zeros(channels).double(), torch.ones(channels).double()
                running[path + ".running_mean"], running[path + ".running_var"] = mean, var
                frames = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, channels) for x in batch])
                frames = F.batch_norm(frames, mean, var, w, b, training=True)
                parts = frames.split([x.numel() // channels for x in batch])
                batch = [p.reshape(1, *x.shape[2:], channels).permute(0, 3, 1, 2) for p, x in zip(parts, batch)]
            case "activation":
                batch = [activate(x, layer) for x in batch]
            case "max-pool":
                batch = [F.max_pool2d(x, layer["kernel"]) for x in batch]
            case "average-pool":
                batch = [F.avg_pool2d(x, layer["kernel"]) for x in batch]
            case "local-response-norm":
                size = layer["size"]
                batch = [F.local_response_norm(x, size, layer["alpha"] * size, layer["beta"], layer["k"]) for x in batch]
            case "residual":
                branch = run(layer.get("branch", []), path + ".", batch)
                shortcut = run(layer.get("shortcut", []), path + ".", batch)
                batch = [a + b for a, b in zip(branch, shortcut)]
            case "frequency-collapse":
                batch = [x.permute(0, 1, 3, 2).reshape(1, -1, x.shape[2], 1) for x in batch]
            case "log-softmax":
                batch = [F.log_softmax(x, 1) for x in batch]
            case "dropout":
                pass
    return batch


def packed(batch):
    return torch.cat([x[0].permute(1, 2, 0).reshape(-1) for x in batch]).float().contiguous()


layers = tomllib.loads((here / "layers.toml").read_text())["layers"]
inputs = [torch.randn(1, CHANNELS, t, BINS).requires_grad_() for t in LENGTHS]
outputs = run(layers, "", [x.double() for x in inputs])
factors = [torch.randn(y.shape) for y in outputs]
sum((f * y).sum() for f, y in zip(factors, outputs)).backward()

tensors = {
    "lengths": torch.tensor(LENGTHS, dtype=torch.float32),
    "input": packed(inputs),
    "output": packed(outputs),
    "factors": packed(factors),
    "input.gradient": packed([x.grad for x in inputs]),
}
for path, values in parameters.items():
    tensors["value:" + path] = values.detach()
    tensors["gradient:" + path] = values.grad
for path, values in running.items():
    tensors["after:" + path] = values.float()
save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, here / "layers.safetensors")
