#!/usr/bin/env python3
"""Recordings of a NeMo manifest once more, as if other people had said them.

    pip install numpy pyworld soundfile
    python3 scripts/revoice.py MANIFEST.jsonl OUT [--copies SOURCE=N …] [--seed N] [--workers N]

The WORLD vocoder (Morise et al. 2016) parts a recording into pitch, spectral envelope and breath; each copy gets a pitch and
pitch range, a vocal tract (the envelope stretched along frequency, its throat and mouth apart), a timbre (a smooth curve over
the spectrum), a breath and a pace of its own, all drawn from the seed and the file's name. Writes FLAC and OUT/manifest.jsonl, whose speakers and licences are those of the recordings.
"""

import argparse
import json
import multiprocessing
import os
import random

import numpy as np
import pyworld
import soundfile

# Between two frames of the analysis.
FRAME_MS = 8.0


def parts_of(sound, rate):
    """Pitch in Hz, envelope and aperiodicity of every frame."""
    pitch, times = pyworld.dio(sound, rate, frame_period=FRAME_MS, f0_floor=60.0, f0_ceil=500.0)
    pitch = pyworld.stonemask(sound, pitch, times, rate)
    return pitch, pyworld.cheaptrick(sound, pitch, times, rate), pyworld.d4c(sound, pitch, times, rate, threshold=0.5)


def stretched(envelope, throat, mouth, rate):
    """The envelope of a vocal tract whose resonances lie `throat` times as high below 1 kHz, `mouth` times above 2.5 kHz."""
    bins = np.arange(envelope.shape[1])
    corners = np.array([0.0, 1000.0, 2500.0, rate / 2]) / (rate / 2) * bins[-1]
    source = np.clip(np.interp(bins, corners * [1, throat, mouth, mouth], corners), 0, bins[-1])
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, bins[-1])
    share = source - low
    return np.exp(np.log(envelope[:, low]) * (1 - share) + np.log(envelope[:, high]) * share)


def timbre(draw, bins):
    """Factors of the power of each bin: a smooth curve, some 3 dB high and deep, and a tilt."""
    knots = [2 * draw.gauss(0, 0.35) for _ in range(12)]
    tilt = draw.gauss(0, 0.7)
    return np.exp(np.interp(np.linspace(0, 11, bins), np.arange(12), knots) + tilt * np.linspace(0.5, -0.5, bins))


def voices(row, copies, folder, out, seed):
    """Writes the copies of one recording and returns their rows."""
    sound, rate = soundfile.read(os.path.join(folder, row["audio_filepath"]), dtype="float64", always_2d=True)
    sound = sound.mean(axis=1)
    draw = random.Random(f"{seed} {row['audio_filepath']}")
    pitch, envelope, aperiodicity = parts_of(sound, rate)
    voiced = pitch > 0
    mean = np.exp(np.log(pitch[voiced]).mean()) if voiced.any() else 1.0
    rows = []
    for copy in range(copies):
        # Long tracts mostly go with low voices; a pitch between a deep man's and a child's.
        tract = draw.uniform(0.84, 1.2)
        throat = min(max(tract * np.exp(draw.gauss(0, 0.04)), 0.8), 1.25)
        target = min(max(mean * tract ** draw.uniform(1.5, 3.0) * np.exp(draw.gauss(0, 0.2)), 75.0), 330.0)
        spoken = np.where(voiced, target * (np.maximum(pitch, 1.0) / mean) ** draw.uniform(0.7, 1.4), 0.0)
        pace = draw.uniform(0.82, 1.25)
        body = np.ascontiguousarray(stretched(envelope, throat, tract, rate) * timbre(draw, envelope.shape[1]))
        breath = np.clip(aperiodicity, 0, 1) ** np.exp(draw.gauss(0, 0.3))
        new = pyworld.synthesize(spoken, body, breath, rate, FRAME_MS / pace)
        new = new / max(np.abs(new).max(), 1e-6) * 10 ** (draw.uniform(-18, -2) / 20)
        name = os.path.splitext(row["audio_filepath"])[0] + f"_{copy}.flac"
        os.makedirs(os.path.dirname(os.path.join(out, name)), exist_ok=True)
        soundfile.write(os.path.join(out, name), new, rate, subtype="PCM_16")
        rows.append({**row, "audio_filepath": name, "duration": round(len(new) / rate, 3)})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("out")
    parser.add_argument("--copies", nargs="*", default=[], metavar="SOURCE=N", help="copies of each recording of a source [1]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    copies = {source: int(count) for source, count in (pair.split("=") for pair in args.copies)}
    folder = os.path.dirname(os.path.abspath(args.manifest))
    with open(args.manifest, encoding="utf-8") as manifest:
        rows = [json.loads(line) for line in manifest]
    os.makedirs(args.out, exist_ok=True)
    tasks = [(row, copies.get(row.get("source"), 1), folder, args.out, args.seed) for row in rows]
    with multiprocessing.Pool(args.workers) as pool, open(os.path.join(args.out, "manifest.tmp"), "w", encoding="utf-8") as out:
        for made in pool.starmap(voices, tasks, chunksize=8):
            out.writelines(json.dumps(row) + "\n" for row in made)
    os.replace(os.path.join(args.out, "manifest.tmp"), os.path.join(args.out, "manifest.jsonl"))


if __name__ == "__main__":
    main()
