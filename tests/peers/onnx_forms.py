"""Checks exported networks with ONNX's own tools: python onnx_forms.py FOLDER...

Each FOLDER holds streaming.onnx, offline.onnx, shapes.json and, as raw little-endian f32, frames and the outputs that
the native engine made of all of them (outputs) and of the first half (half).
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime


def streamed(session, shapes, frames, half):
    """Two streams at once. The second slot first hears noise, then starts anew and ends early."""
    stride, delay, width = shapes["stride"], shapes["delay_steps"], frames.shape[1]
    rng = np.random.default_rng(1)
    histories = [i for i in session.get_inputs() if i.name.startswith("history.")]
    history = {i.name: i.shape[1:] for i in histories}
    dtypes = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    dtype = {i.name: dtypes[i.type] for i in histories}
    state = {name: np.zeros([2, *shape], dtype[name]) for name, shape in history.items()}
    names = [o.name for o in session.get_outputs()]
    lengths, start = [len(frames), half], 0
    chunks, rows, begun = 0, [[], []], False
    while any(len(r) < steps for r, steps in zip(rows, shapes["steps"])) or chunks < 3:
        n = stride * int(rng.integers(1, 6))
        if chunks == 2:  # a new stream takes the second slot
            begun, second = True, start
        starts = [start, start - second if begun else start]
        given = rng.normal(size=[2, n, width]).astype(np.float32)  # what is behind the end may be anything
        for i in range(2 if begun else 1):
            part = frames[: lengths[i]][starts[i] : starts[i] + n]
            given[i, : len(part)] = part
        known = [starts[i] + n >= lengths[i] and (begun or i == 0) for i in range(2)]
        feeds = {"frames": given, "position": np.array(starts),
                 "length": np.array([lengths[i] if known[i] else 2**63 - 1 for i in range(2)]), **state}
        log_probs, *new = session.run(names, feeds)
        state = {name.removeprefix("new_"): value for name, value in zip(names[1:], new)}
        for i in range(2 if begun else 1):
            for row, step in zip(log_probs[i], range(starts[i] // stride - delay, shapes["steps"][i])):
                if step >= 0:
                    rows[i].append(row)
        start, chunks = start + n, chunks + 1
    return rows


def compare(name, mine, theirs, tolerance):
    mine = np.array(mine, np.float32).reshape(-1)
    assert mine.shape == theirs.shape, (name, mine.shape, theirs.shape)
    apart = float(np.abs(mine - theirs).max(initial=0))
    assert apart < tolerance, (name, apart)
    return apart


for folder in map(pathlib.Path, sys.argv[1:]):
    shapes = json.loads((folder / "shapes.json").read_text())
    read = lambda name: np.fromfile(folder / name, "<f4")
    frames = read("frames").reshape(-1, shapes["width"])
    sessions = {}
    for form in ["streaming", "offline"]:
        model = onnx.load(folder / f"{form}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [opset.domain for opset in model.opset_import] == [""]
        sessions[form] = onnxruntime.InferenceSession(folder / f"{form}.onnx", providers=["CPUExecutionProvider"])
    whole = sessions["offline"].run(["log_probs"], {"frames": np.stack([frames, frames])})[0]
    rows = streamed(sessions["streaming"], shapes, frames, shapes["half"])
    pairs = [("offline", whole[0], "outputs"), ("offline, second", whole[1], "outputs"),
             ("streamed", rows[0], "outputs"), ("streamed, second", rows[1], "half")]
    print(folder.name, *(compare(name, mine, read(theirs), shapes["tolerance"]) for name, mine, theirs in pairs))
