#!/usr/bin/env python3
"""Word error rates of PocketSphinx 5.1.1 (its own en-us model and language model) on a manifest.

    pip install pocketsphinx==5.1.1 soundfile scipy
    python3 benches/peers/pocketsphinx_wer.py MANIFEST.jsonl [HYPOTHESES.jsonl]

Prints WER and CER per source and CPU seconds; `dfcnn evaluate MANIFEST.jsonl` prints the same for ours. References are taken
as they are: lower-case letters and apostrophes. PocketSphinx's alternative pronunciations, fillers and fragments are removed.
"""

import collections
import json
import os
import re
import resource
import sys

import numpy
import soundfile
from pocketsphinx import Decoder
from scipy.signal import resample_poly

RATE = 16000


def errors(said, heard):
    """Levenshtein's distance."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def words_of(hypothesis):
    text = re.sub(r"\(\d+\)|<[^>]*>|\[[^\]]*\]|\+\+[^+]*\+\+", " ", hypothesis.lower())
    return re.sub(r"[^a-z' ]", " ", text).split()


def main():
    manifest = sys.argv[1]
    decoder = Decoder(samprate=RATE, loglevel="FATAL")
    totals = collections.defaultdict(lambda: [0, 0, 0, 0, 0])
    out = open(sys.argv[2], "w") if len(sys.argv) > 2 else None
    seconds = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for line in open(manifest, encoding="utf-8"):
        entry = json.loads(line)
        sound, rate = soundfile.read(os.path.join(os.path.dirname(manifest), entry["audio_filepath"]), dtype="float32")
        sound = sound if sound.ndim == 1 else sound.mean(axis=1)
        sound = sound if rate == RATE else resample_poly(sound, RATE, rate)
        seconds += len(sound) / RATE
        decoder.start_utt()
        decoder.process_raw((numpy.clip(sound, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        heard = words_of(decoder.hyp().hypstr if decoder.hyp() else "")
        said = entry["text"].split()
        for name in (entry.get("source", "all"), "all"):
            total = totals[name]
            total[0] += errors(said, heard)
            total[1] += len(said)
            total[2] += errors(" ".join(said), " ".join(heard))
            total[3] += len(" ".join(said))
            total[4] += 1
        if out:
            print(json.dumps({"audio_filepath": entry["audio_filepath"], "text": entry["text"], "heard": " ".join(heard)}), file=out)
    cpu = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    for name, (wrong, words, wrong_characters, characters, count) in sorted(totals.items()):
        print(f"{name:20} {count:5} utterances  WER {100 * wrong / words:5.1f} %  CER {100 * wrong_characters / characters:5.1f} %")
    print(f"{seconds:.0f} s of sound in {cpu:.0f} s of CPU")


if __name__ == "__main__":
    main()
