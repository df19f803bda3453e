#!/usr/bin/env python3
"""Copies of a manifest's recordings in worse conditions, to be heard by `dfcnn evaluate`.

    pip install numpy scipy soundfile
    python3 benches/robustness.py MANIFEST.jsonl OUT [--limit N] [--seed N]
    for set in OUT/*/manifest.jsonl; do dfcnn evaluate $set; done

Conditions: clean; pink noise and babble (three other clips of the manifest) at 20, 10 and 5 dB; a telephone's band (300–3400 Hz,
8 kHz, mu-law); 0.8 and 1.25 times the speed (resampled, so the pitch changes too); quiet (-40 dBFS peak, 16 bit); clipped
(12 dB over full scale). The ratio of speech to noise is taken over the clip's loudest half.
"""

import argparse
import json
import os

import numpy as np
import soundfile
from scipy.signal import butter, resample_poly, sosfilt

RATE = 16000


def loudness(sound):
    """Power of the louder half of the clip's 20 ms frames."""
    frames = sound[: len(sound) // 320 * 320].reshape(-1, 320)
    powers = np.sort((frames**2).mean(axis=1)) if len(frames) else np.array([np.mean(sound**2)])
    return powers[len(powers) // 2 :].mean() + 1e-12


def mixed(sound, noise, ratio_db):
    noise = np.resize(noise, len(sound))
    return sound + noise * np.sqrt(loudness(sound) / (np.mean(noise**2) + 1e-12) * 10 ** (-ratio_db / 10))


def pink(count, random):
    spectrum = np.fft.rfft(random.standard_normal(count))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), count)


def telephone(sound):
    narrow = sosfilt(butter(6, [300, 3400], "band", fs=RATE, output="sos"), sound)
    narrow = np.clip(resample_poly(narrow, 1, 2), -1, 1)
    compressed = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    compressed = np.round(compressed * 127) / 127
    return resample_poly(np.sign(compressed) * np.expm1(np.abs(compressed) * np.log(256)) / 255, 2, 1)


def conditions(sound, others, random):
    babble = sum(np.resize(np.roll(other, random.integers(len(other))), len(sound)) / np.sqrt(loudness(other)) for other in others)
    noise = pink(len(sound), random)
    yield "clean", sound
    for ratio_db in (20, 10, 5):
        yield f"noise-{ratio_db}dB", mixed(sound, noise, ratio_db)
        yield f"babble-{ratio_db}dB", mixed(sound, babble, ratio_db)
    yield "telephone", telephone(sound)
    yield "slow-0.8", resample_poly(sound, 5, 4)
    yield "fast-1.25", resample_poly(sound, 4, 5)
    peak = np.max(np.abs(sound)) + 1e-9
    yield "quiet-40dBFS", sound / peak * 0.01
    yield "clipped", np.clip(sound / peak * 4, -1, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest")
    parser.add_argument("out")
    parser.add_argument("--limit", type=int, help="take only this many clips, evenly spread")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    entries = [json.loads(line) for line in open(arguments.manifest, encoding="utf-8")]
    if arguments.limit:
        entries = entries[:: max(1, len(entries) // arguments.limit)]
    random = np.random.default_rng(arguments.seed)

    def read(entry):
        sound, rate = soundfile.read(os.path.join(os.path.dirname(arguments.manifest), entry["audio_filepath"]))
        sound = sound if sound.ndim == 1 else sound.mean(axis=1)
        return sound if rate == RATE else resample_poly(sound, RATE, rate)

    manifests = {}
    for number, entry in enumerate(entries):
        others = [read(entries[index]) for index in random.integers(len(entries), size=3)]
        for name, sound in conditions(read(entry), others, random):
            folder = os.path.join(arguments.out, name)
            os.makedirs(folder, exist_ok=True)
            peak = np.max(np.abs(sound)) + 1e-9
            sound = sound / peak if peak > 1 else sound
            soundfile.write(os.path.join(folder, f"{number:05}.flac"), sound, RATE, subtype="PCM_16")
            line = entry | {"audio_filepath": f"{number:05}.flac", "duration": len(sound) / RATE}
            manifests.setdefault(name, []).append(json.dumps(line))
    for name, lines in manifests.items():
        with open(os.path.join(arguments.out, name, "manifest.jsonl"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
