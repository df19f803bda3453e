#!/usr/bin/env python3
"""Scores sentences with KenLM and with `dfcnn lm perplexity` on the same ARPA file.

    pip install kenlm
    python3 benches/peers/kenlm_query.py DFCNN ARPA TEXT [SENTENCES]

Each sentence's log10 probability by KenLM is compared with ours, sentence by sentence; then the perplexities over the whole
text. Exits with 1 if a sentence differs by more than 1e-4 per word.
"""
import json
import subprocess
import sys

import kenlm

TOLERANCE = 1e-4


def ours(dfcnn, arpa, lines):
    """(Sum of log10, words with ends, unknown words) of each line."""
    run = subprocess.run([dfcnn, "lm", "perplexity", "--json", arpa, "-"], input="\n".join(lines) + "\n", text=True,
                         stdout=subprocess.PIPE, check=True)
    objects = [json.loads(line) for line in run.stdout.splitlines()]
    return [one for one in objects if one["type"] == "sentence"], objects[-1]


def main():
    dfcnn, arpa, text = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 500
    lines = [line.strip() for line in open(text, encoding="utf-8") if line.strip()]
    lines = lines[:: max(1, len(lines) // count)]
    sentences, total = ours(dfcnn, arpa, lines)
    assert len(sentences) == len(lines), "a sentence is missing"
    model = kenlm.Model(arpa)
    worst, log10, words, unknown, log10_unknown = 0.0, 0.0, 0, 0, 0.0
    for line, sentence in zip(lines, sentences):
        scores = list(model.full_scores(line))
        theirs = sum(score for score, _, _ in scores)
        worst = max(worst, abs(theirs - sentence["log10_prob"]) / len(scores))
        log10, words = log10 + theirs, words + len(scores)
        unknown += sum(oov for _, _, oov in scores)
        log10_unknown += sum(score for score, _, oov in scores if oov)
    print(f"{len(lines)} sentences, {words} words and ends, {unknown} unknown (ours {total['unknown']})")
    print(f"perplexity with unknown: KenLM {10 ** (-log10 / words):.4f}, ours {total['perplexity']:.4f}")
    print(f"perplexity without: KenLM {10 ** (-(log10 - log10_unknown) / (words - unknown)):.4f}, "
          f"ours {total['perplexity_without_unknown']:.4f}")
    print(f"worst difference of a sentence: {worst:.2e} in log10 per word")
    return 1 if worst > TOLERANCE or unknown != total["unknown"] else 0


if __name__ == "__main__":
    sys.exit(main())
