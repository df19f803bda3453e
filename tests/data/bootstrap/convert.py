#!/usr/bin/env python3
"""Convert the bootstrap network from its PyTorch names to ours: weights.safetensors and tokens.txt beside this file.

    pip install numpy safetensors
    python3 convert.py model.safetensors              # f16, as shipped
    python3 convert.py model.safetensors --f32 DIR    # f32 with a copy of model.toml, for comparisons at full precision
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
# Computed from the settings in model.toml, or bookkeeping of the training.
LEFT_OUT = re.compile(r"feature\.melfb|.*\.num_batches_tracked")
RENAMED = [
    (r"feature\.(mean|std)", r"spectrogram.\1"),
    (r"(c\d|col|hid)\.0\.(.*)", r"\1.\2"),
    (r"(c\d|col|hid)\.1\.(.*)", r"\1-norm.\2"),
    (r"t\.(\d)\.dw\.(.*)", r"t\1.depthwise.\2"),
    (r"t\.(\d)\.b0\.(.*)", r"t\1.depthwise-norm.\2"),
    (r"t\.(\d)\.p1\.(.*)", r"t\1.pointwise.\2"),
    (r"t\.(\d)\.b1\.(.*)", r"t\1.pointwise-norm.\2"),
    (r"(out\..*)", r"\1"),
]


def renamed(name):
    for pattern, replacement in RENAMED:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise SystemExit(f"{name}: no rule renames this tensor")


def converted(tensor, half):
    if tensor.ndim == 3:  # a convolution along time: its extent along frequency is 1
        tensor = tensor[..., np.newaxis]
    # As `Precision::F16` of the library: normalisation and biases stay f32.
    return tensor.astype(np.float16 if half and tensor.ndim > 1 else np.float32)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source", type=Path, help="model.safetensors with PyTorch names")
    arguments.add_argument("--f32", type=Path, metavar="DIR", help="write a whole f32 bundle to DIR instead")
    arguments = arguments.parse_args()
    folder = arguments.f32 or HERE
    folder.mkdir(parents=True, exist_ok=True)
    with safe_open(arguments.source, "numpy") as source:
        names = [name for name in source.keys() if not LEFT_OUT.fullmatch(name)]
        tensors = {renamed(name): converted(source.get_tensor(name), arguments.f32 is None) for name in names}
        vocabulary = json.loads(source.metadata()["vocab"])
    save_file(tensors, folder / "weights.safetensors")
    lines = ["<space>" if token == " " else token for token in vocabulary]
    (folder / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if arguments.f32:
        shutil.copy(HERE / "model.toml", folder / "model.toml")


if __name__ == "__main__":
    main()
