#!/usr/bin/env bash
# Makes the spectrogram datasets of the English model: scripts/english-data.sh CORPUS OUT [HOURS]
#
# CORPUS is a folder with real speech (train.jsonl, dev.jsonl) and the synthesiser (synthesize.py, install-voices.sh, its
# texts in ../text); OUT gets the voices, HOURS (32) of synthetic speech, the real speech in other voices, 1.5 h of sounds in
# which nothing is said, and the datasets short, synthetic, revoiced, nonspeech, real and dev.
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
[ -e "$out/speech/revoiced/manifest.jsonl" ] || {
    "$out/voices/bin/pip" install --quiet pyworld==0.3.5
    "$out/voices/bin/python" "$project/scripts/revoice.py" "$corpus/train.jsonl" "$out/speech/revoiced" --seed 2 --copies \
        librispeech=20 african_storybook=8 asterisk=6 speechocean762=4 speech_commands=0 free_spoken_digits=0
}
[ -e "$out/nonspeech-sounds/music/manifest.jsonl" ] ||
    "$out/voices/bin/python" "$project/benches/nonspeech.py" "$out/nonspeech-sounds" --minutes 15 --seed 20261123
prepare() { # OUT MANIFEST…
    local folder="$1"
    shift
    "$dfcnn" prepare "$@" --recipe "$project/models/architectures/residual.toml" --out "$folder"
}
# Piper's `joe` descends from a voice whose recordings are not free.
for set in short synthetic; do
    grep -v '"speaker": "piper' "$out/speech/$set/manifest.jsonl" >"$out/speech/$set/free.jsonl"
    prepare "$out/$set" "$out/speech/$set/free.jsonl"
done
prepare "$out/nonspeech" "$out"/nonspeech-sounds/*/manifest.jsonl
prepare "$out/revoiced" "$out/speech/revoiced/manifest.jsonl"
prepare "$out/real" "$corpus/train.jsonl"
prepare "$out/dev" "$corpus/dev.jsonl"
