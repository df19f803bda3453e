#!/usr/bin/env python3
"""Captions of the program, read by parsers that others wrote: PyPI `srt` and `webvtt-py`.

Usage: tests/peers/captions.py target/debug/dfcnn audio/*
Exit code 1 if a parser complains or finds other words or times than JSON has.
"""
import json
import subprocess
import sys
import tempfile

import srt
import webvtt

# A minimal display time lets a cue stay longer than its last word.
LONGEST_S, SHORTEST_S, ROUNDING_S = 7.0, 1.0, 0.002


def run(program, path, form):
    command = [program, "transcribe", "-q", "--min-confidence", "0", "--format", form, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def cues_of_srt(text):
    cues = list(srt.parse(text))  # strict: raises on anything between cues
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1)), "numbers"
    assert srt.compose(cues, reindex=False) == text, "srt would write it differently"
    return [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in cues]


def cues_of_vtt(text):
    with tempfile.NamedTemporaryFile("w", suffix=".vtt") as file:
        file.write(text)
        file.flush()
        return [(to_seconds(cue.start), to_seconds(cue.end), cue.text) for cue in webvtt.read(file.name)]


def to_seconds(clock):
    hours, minutes, seconds = clock.split(":")
    return round(int(hours) * 3600 + int(minutes) * 60 + float(seconds), 3)


def check(program, path):
    lines = [json.loads(line) for line in run(program, path, "json").splitlines()]
    words = [word for line in lines if line["type"] == "final" for word in line["words"]]
    of_srt, of_vtt = cues_of_srt(run(program, path, "srt")), cues_of_vtt(run(program, path, "vtt"))
    assert of_srt == of_vtt, "SRT and WebVTT differ"
    assert " ".join(text for _, _, text in of_srt).split() == [word["text"] for word in words], "words"
    if words:
        assert abs(of_srt[0][0] - words[0]["start_s"]) < ROUNDING_S, "start"
        assert min(words[-1]["end_s"], of_srt[-1][0] + LONGEST_S) - ROUNDING_S < of_srt[-1][1] < words[-1]["end_s"] + SHORTEST_S, "end"
    for start_s, end_s, text in of_srt:
        assert 0 < end_s - start_s <= LONGEST_S + ROUNDING_S, "time"
        assert len(text.split("\n")) <= 2 and all(len(line) <= 42 for line in text.split("\n")), "layout"
    assert all(one[1] <= two[0] for one, two in zip(of_srt, of_srt[1:])), "overlap"
    return len(of_srt)


def main(program, paths):
    failed = 0
    for path in paths:
        try:
            print(f"{path}: {check(program, path)} cues, as the parsers read them")
        except Exception as error:
            failed = 1
            print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
