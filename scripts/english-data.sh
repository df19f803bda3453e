#!/usr/bin/env bash
# Makes the spectrogram datasets of the English model: scripts/english-data.sh CORPUS OUT [HOURS]
#
# CORPUS is a folder with real speech (train.jsonl, dev.jsonl) and the synthesiser (synthesize.py, install-voices.sh, its
# texts in ../text); OUT gets the voices, HOURS (32) of synthetic speech and the datasets short, synthetic, real and dev.
# Everything can be stopped and run again.
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
corpus="$(realpath "${1:?usage: english-data.sh CORPUS OUT [HOURS]}")" hours="${3:-32}"
mkdir -p "${2:?usage: english-data.sh CORPUS OUT [HOURS]}"
out="$(realpath "$2")"
"$project/scripts/prepare.sh"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
cargo build --manifest-path "$project/Cargo.toml" --release --locked --quiet
dfcnn="$project/target/release/dfcnn"

[ -x "$out/voices/bin/python" ] || sh "$corpus/install-voices.sh" "$out/voices"
speak() { # OUT HOURS SEED
    [ -e "$1/manifest.jsonl" ] || "$out/voices/bin/python" "$corpus/synthesize.py" --hours "$2" --seed "$3" --out "$1" --resume
}
speak "$out/speech/short" 3 1
speak "$out/speech/synthetic" "$hours" 2
prepare() { "$dfcnn" prepare "$1" --recipe "$project/models/architectures/residual.toml" --out "$2"; }
# Piper's `joe` descends from a voice whose recordings are not free.
for set in short synthetic; do
    grep -v '"speaker": "piper' "$out/speech/$set/manifest.jsonl" >"$out/speech/$set/free.jsonl"
    prepare "$out/speech/$set/free.jsonl" "$out/$set"
done
prepare "$corpus/train.jsonl" "$out/real"
prepare "$corpus/dev.jsonl" "$out/dev"
