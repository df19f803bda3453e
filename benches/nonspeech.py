#!/usr/bin/env python3
"""Sounds in which nothing is said, with manifests whose texts are empty: to hear whether words are made up, and to train against it.

    pip install numpy soundfile
    python3 benches/nonspeech.py OUT [--minutes 5] [--seed 1]
    for set in OUT/*/manifest.jsonl; do dfcnn evaluate $set; done

Kinds, clips of 2 to 20 s at -60 to -1 dBFS, all drawn from the seed: digital silence and the hiss of a quiet input; coloured noise
whose level wanders; mains hum; keys, knocks and steps; tones, beeps and sweeps; music of chords, melodies and drums.
"""

import argparse
import json
import os

import numpy as np
import soundfile

RATE = 16000


def noise(count, exponent, random):
    """Noise whose power density falls as 1 / f^exponent, of power 1."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    hz = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20)
    result = np.fft.irfft(spectrum * hz ** (-exponent / 2), count)
    return result / (np.std(result) + 1e-12)


def wandering(count, random, swing_db):
    """A gain that wanders by about `swing_db`, a few times a second at most."""
    points = random.standard_normal(max(2, int(count / RATE * random.uniform(0.3, 4)) + 2)) * swing_db
    return 10 ** (np.interp(np.linspace(0, len(points) - 1, count), np.arange(len(points)), points) / 20)


def silence(count, random):
    return np.zeros(count) if random.random() < 0.3 else noise(count, random.uniform(0, 1), random)


def colours(count, random):
    sound = noise(count, random.uniform(0, 2), random)
    if random.random() < 0.3:
        spectrum = np.fft.rfft(sound)
        low = random.uniform(50, 3000)
        spectrum[: int(low * count / RATE)] *= 0.01
        spectrum[int(low * random.uniform(1.2, 6) * count / RATE) :] *= 0.01
        sound = np.fft.irfft(spectrum, count)
    return sound * wandering(count, random, random.choice([0, 3, 8]))


def hum(count, random):
    time = np.arange(count) / RATE
    mains = random.choice([50, 60, 100, 120]) * random.uniform(0.995, 1.005)
    sound = sum(
        10 ** (-random.uniform(0, 40) / 20) * np.sin(2 * np.pi * (k * mains * time + random.random())) for k in range(1, 20)
    )
    return sound + noise(count, 1, random) * 10 ** (-random.uniform(10, 50) / 20)


def struck(random, lowest_hz, highest_hz, longest_s):
    """One blow: a burst of noise and a few resonances that die away."""
    count = int(RATE * random.uniform(0.02, longest_s))
    time = np.arange(count) / RATE
    decay = np.exp(-time * random.uniform(4, 12) * RATE / count)
    sound = random.standard_normal(count) * np.exp(-time * random.uniform(200, 2000))
    for _ in range(random.integers(1, 6)):
        sound += random.uniform(0.1, 1) * np.sin(2 * np.pi * random.uniform(lowest_hz, highest_hz) * time) * decay
    return sound


def blows(count, random):
    sound = noise(count, 1, random) * 10 ** (-random.uniform(20, 60) / 20)
    kind = random.choice(["keys", "knocks", "steps"])
    lowest, highest, longest, rate = {"keys": (800, 6000, 0.06, 7), "knocks": (100, 900, 0.2, 4), "steps": (50, 500, 0.25, 2)}[kind]
    at = 0.0
    while (at := at + random.exponential(1 / rate) * random.uniform(0.5, 1.5) + 0.04) < count / RATE:
        blow = struck(random, lowest, highest, longest) * random.uniform(0.3, 1)
        start = int(at * RATE)
        sound[start : start + len(blow)] += blow[: count - start]
    return sound


def tones(count, random):
    time = np.arange(count) / RATE
    sound, at = noise(count, 1, random) * 10 ** (-random.uniform(30, 70) / 20), 0
    kind = random.choice(["beeps", "two", "sweep", "steady"])
    while at < count:
        length = int(RATE * (random.uniform(0.05, 0.6) if kind in ("beeps", "two") else random.uniform(0.5, 5)))
        piece = time[: min(length, count - at)]
        hz = random.uniform(150, 4000)
        if kind == "sweep":
            phase = hz * piece + random.uniform(-2000, 2000) / 5 * piece**2
        else:
            phase = hz * piece
        tone = np.sin(2 * np.pi * phase)
        if kind == "two":
            tone += np.sin(2 * np.pi * random.uniform(150, 4000) * piece)
        sound[at : at + len(piece)] += tone * np.minimum(1, np.minimum(piece, piece[::-1]) * 100)
        at += length + (0 if kind == "steady" else int(RATE * random.exponential(0.3)))
    return sound


def note(midi, length_s, random, timbre):
    """A note with the harmonics, the attack, the decay and the vibrato of its instrument."""
    harmonics, attack_s, decay, vibrato = timbre
    time = np.arange(max(1, int(length_s * RATE))) / RATE
    hz = 440 * 2 ** ((midi - 69) / 12)
    phase = hz * time + vibrato * hz * np.sin(2 * np.pi * 5.5 * time) / (2 * np.pi * 5.5)
    sound = sum(a * np.sin(2 * np.pi * (k + 1) * phase) for k, a in enumerate(harmonics) if (k + 1) * hz < RATE / 2)
    return sound * np.minimum(1, time / attack_s) * np.exp(-decay * time) * np.minimum(1, time[::-1] * 50)


def instrument(random):
    slope = random.uniform(0.6, 2.5)
    harmonics = [random.uniform(0.3, 1) / (k + 1) ** slope for k in range(12)]
    return harmonics, random.choice([0.003, 0.02, 0.1]), random.choice([0, 1, 4]), random.choice([0, 0, 0.005, 0.015])


def music(count, random):
    sound = np.zeros(count)

    def add(piece, at_s, gain):
        start = int(at_s * RATE)
        if start < count:
            sound[start : start + len(piece)] += gain * piece[: count - start]

    beat_s, key = 60 / random.uniform(60, 170), random.integers(45, 60)
    scale = random.choice([[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 7, 9, 12, 14]])
    lead, chords, bass = (instrument(random) for _ in range(3))
    parts = random.random(4) < [0.8, 0.7, 0.6, 0.5]
    if not parts.any():
        parts[0] = True
    at, degree = 0.0, 7
    while at < count / RATE:
        root = int(random.choice([0, 3, 4, 5]))
        if parts[1]:
            for third in (0, 2, 4):
                step = root + third
                add(note(key + scale[step % 7] + 12 * (step // 7), 4 * beat_s, random, chords), at, 0.3)
        for beat in range(4):
            start = at + beat * beat_s
            if parts[0]:
                for half in range(random.integers(1, 3)):
                    degree = int(np.clip(degree + random.integers(-3, 4), 0, 20))
                    pitch = key + 12 + scale[degree % 7] + 12 * (degree // 7)
                    add(note(pitch, beat_s * random.uniform(0.3, 1.2), random, lead), start + half * beat_s / 2, 0.6)
            if parts[2]:
                add(note(key - 12 + scale[root], beat_s, random, bass), start, 0.6)
            if parts[3]:
                low = beat % 2 == 0
                add(struck(random, *((50, 120) if low else (180, 3000)), 0.25), start, 0.6)
                add(struck(random, 4000, 7500, 0.06), start + beat_s / 2, 0.2)
        at += 4 * beat_s
    return sound + noise(count, 1, random) * 10 ** (-random.uniform(40, 80) / 20)


KINDS = {"silence": silence, "noise": colours, "hum": hum, "blows": blows, "tones": tones, "music": music}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=5, help="of every kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for number, (name, make) in enumerate(KINDS.items()):
        random = np.random.default_rng([arguments.seed, number])
        folder = os.path.join(arguments.out, name)
        os.makedirs(folder, exist_ok=True)
        left, entries = arguments.minutes * 60, []
        while left > 0:
            seconds = random.uniform(2, 20)
            sound = make(int(seconds * RATE), random)
            peak_db = random.uniform(-75, -45) if name == "silence" else random.choice([random.uniform(-60, -20), random.uniform(-20, -1)])
            sound = sound / (np.max(np.abs(sound)) + 1e-9) * 10 ** (peak_db / 20)
            file = f"{len(entries):04}.wav"
            soundfile.write(os.path.join(folder, file), sound, RATE, subtype="PCM_16")
            entries.append({"audio_filepath": file, "duration": round(len(sound) / RATE, 3), "text": "", "source": name})
            left -= seconds
        # Last, so that a manifest is there only when its sounds are.
        with open(os.path.join(folder, "manifest.jsonl"), "w", encoding="utf-8") as manifest:
            manifest.writelines(json.dumps(entry) + "\n" for entry in entries)


if __name__ == "__main__":
    main()
