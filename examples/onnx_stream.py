#!/usr/bin/env python3
"""Streams a WAV recording through an exported model and prints what it hears.

    pip install numpy onnxruntime
    dfcnn export --onnx model.onnx
    python examples/onnx_stream.py model.onnx audio/harbour.wav
"""
import json, sys, wave
import numpy as np, onnxruntime as ort

session = ort.InferenceSession(sys.argv[1])
meta = session.get_modelmeta().custom_metadata_map
tokens, front, norm, time = (json.loads(meta[key]) for key in ["tokens", "spectrogram", "normalization", "time"])

with wave.open(sys.argv[2]) as sound:  # the model hears mono sound at its own sample rate
    assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, front["sample_rate_hz"])
    samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768

# The front-end: a Hann window, the power of the spectrum, triangles on the mel scale, logarithm, normalisation.
size, hop, fft, scale = front["window_samples"], front["hop_samples"], front["fft_size"], front["scale"]
assert (front["window"], front["spectrum"], scale["kind"]) == ("hann", "power", "mel")
columns = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop] * np.hanning(size + 1)[:-1]
power = np.abs(np.fft.rfft(columns, fft)) ** 2
mels = np.linspace(*[2595 * np.log10(1 + scale[edge] / 700) for edge in ["low_hz", "high_hz"]], scale["bins"] + 2)
edges = (700 * (10 ** (mels / 2595) - 1))[:, None]
hz = np.arange(fft // 2 + 1) * front["sample_rate_hz"] / fft
rise, fall = (hz - edges[:-2]) / np.diff(edges[:-1], axis=0), (edges[2:] - hz) / np.diff(edges[1:], axis=0)
frames = np.log(power @ np.maximum(np.minimum(rise, fall), 0).T + front["log_floor"])
frames = ((frames - norm["mean"]) / norm["std"]).astype(np.float32)

# The stream: 160 ms at a time, at the end zeros until the last step is out.
stride, chunk = time["stride_frames"], 16 // time["stride_frames"] * time["stride_frames"] or time["stride_frames"]
steps = (len(frames) + time["padding_frames"] - time["receptive_field_frames"]) // stride + 1
dtypes = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
histories = [i for i in session.get_inputs() if "history" in i.name]
feeds = {i.name: np.zeros([1, *i.shape[1:]], dtypes[i.type]) for i in histories}
names, best = [output.name for output in session.get_outputs()], 0
for position in range(0, (steps + time["delay_steps"]) * stride, chunk):
    ended = position + chunk >= len(frames)
    feeds["frames"] = np.zeros([1, chunk, frames.shape[1]], np.float32)
    feeds["frames"][0, : len(frames[position : position + chunk])] = frames[position : position + chunk]
    feeds["position"] = np.array([position])
    feeds["length"] = np.array([len(frames) if ended else time["unknown_length"]])
    log_probs, *histories = session.run(names, feeds)
    feeds.update({name.removeprefix("new_"): history for name, history in zip(names[1:], histories)})
    for row, step in zip(log_probs[0], range(position // stride - time["delay_steps"], steps)):
        last, best = best, int(row.argmax())
        if step >= 0 and best != last:
            print(tokens[best], end="", flush=True)
print()
