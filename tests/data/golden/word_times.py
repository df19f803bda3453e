#!/usr/bin/env python3
"""When each word of our clips was said, by the synthesiser that said it: makes word-times.tsv (file, word, start, end).

Needs flite 2.2 with its voices slt and rms. Usage: tests/data/golden/word_times.py > tests/data/golden/word-times.tsv
"""
import pathlib
import subprocess

AUDIO = pathlib.Path(__file__).resolve().parents[3] / "audio"
VOICES = {"harbour.wav": "slt", "garden.flac": "rms", "train.opus": "slt", "market.mp3": "rms"}


def flite(*arguments):
    return subprocess.run(["flite", *arguments, "-o", "none"], capture_output=True, text=True, check=True).stdout.split()


for line in (AUDIO / "transcripts.tsv").read_text().splitlines():
    name, text = line.split("\t")
    ends = [(phone, float(end)) for phone, end in (item.split(":") for item in flite("-voice", VOICES[name], "-psdur", "-t", text))]
    spans = [(phone, begin, end) for (phone, end), begin in zip(ends, [0.0] + [end for _, end in ends]) if phone != "pau"]
    for word in text.split():
        phones = len([phone for phone in flite("-voice", VOICES[name], "-ps", "-t", word) if phone != "pau"])
        said, spans = spans[:phones], spans[phones:]
        print(name, word, f"{said[0][1]:.3f}", f"{said[-1][2]:.3f}", sep="\t")
    assert not spans, f"{name}: {spans} belong to no word"
