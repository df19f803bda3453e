#!/usr/bin/env python3
"""Writes spectrogram_mel.npy and spectrogram_linear.npy: the reference of tests/spectrogram.rs.

The definition spelled out in f64, for a signal that is defined by a formula and rounded to f32:
    python3 tests/data/golden/spectrogram.py    (needs numpy)
"""

from pathlib import Path

import numpy as np

RATE_HZ, WINDOW, HOP, FRAMES = 16_000, 400, 160, 40


def signal(samples):
    """A chirp from 50 Hz to 7850 Hz that fades by 60 dB, with noise at -60 dB in its first half only."""
    n = np.arange(samples)
    t = n / RATE_HZ
    chirp = 0.5 * 10 ** (-3 * n / samples) * np.sin(2 * np.pi * (50 * t + 0.5 * 7800 / (samples / RATE_HZ) * t * t))
    state, noise = 1, np.zeros(samples)
    for i in range(samples // 2):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64  # Knuth's MMIX
        noise[i] = (state >> 40) / 2**23 - 1
    return (chirp + 1e-3 * noise).astype(np.float32).astype(np.float64)


def spectrum(x, window, fft_size):
    frames = np.stack([x[HOP * t : HOP * t + WINDOW] for t in range(FRAMES)])
    return np.abs(np.fft.rfft(frames * window, fft_size))


def mel_filters(bins, low_hz, high_hz, fft_size):
    """Triangles of height 1; one that misses every point listens to the nearest."""
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)
    edges = 700 * (10 ** (np.linspace(mel(low_hz), mel(high_hz), bins + 2) / 2595) - 1)
    hz = np.arange(fft_size // 2 + 1) * RATE_HZ / fft_size
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.maximum(0, np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)))
    for row, tip in zip(filters, edges[1:-1]):
        if row.sum() < 1e-3:
            row[np.argmin(np.abs(hz - tip))] = 1
    return filters


turn = 2 * np.pi * np.arange(WINDOW) / WINDOW
hann, hamming = 0.5 - 0.5 * np.cos(turn), 0.54 - 0.46 * np.cos(turn)
x = signal(WINDOW + HOP * (FRAMES - 1))

mel = np.log(spectrum(x, hann, 512) ** 2 @ mel_filters(80, 20, 7600, 512).T + 1e-6)
linear = np.log(spectrum(x, hamming, 400)[:, :200] + 1 / 32768)

here = Path(__file__).parent
np.save(here / "spectrogram_mel.npy", mel.astype("<f4"))
np.save(here / "spectrogram_linear.npy", linear.astype("<f4"))
