#!/usr/bin/env bash
# Trains the English model: scripts/train-english.sh DATA RUNS MINUTES
#
# DATA is what english-data.sh made. RUNS gets one folder per stage; a stage that was stopped goes on, one that is done is
# left alone. MINUTES are shared out: short clean utterances get the network off the blank plateau, then everything, then
# everything augmented with half of it real. DFCNN names another program than the one built here.
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
data="$(realpath "${1:?usage: train-english.sh DATA RUNS MINUTES}")" minutes="${3:?usage: train-english.sh DATA RUNS MINUTES}"
mkdir -p "${2:?}"
runs="$(realpath "$2")"
dfcnn="${DFCNN:-$project/target/release/dfcnn}"

part() { echo $((minutes * $1 / 100)); }
stage() { # NAME MINUTES ARGUMENT…
    local name="$1" budget="$2"
    shift 2
    [ ! -e "$runs/$name/done" ] || return 0
    if [ -d "$runs/$name/checkpoints" ]; then
        "$dfcnn" train --resume --run "$runs/$name"
    else
        "$dfcnn" train --run "$runs/$name" --dev "$data/dev" --max-minutes "$budget" "$@"
    fi
    touch "$runs/$name/done"
}
stage short "$(part 4)" --recipe "$project/models/architectures/residual.toml" "$data/short" --longest 3.5 --curriculum 1 \
    --augment 0
stage clean "$(part 20)" --init-from "$runs/short/last" "$data/short" "$data/synthetic" "$data/real=4" --curriculum 2 \
    --curriculum-longest 6 --batch-seconds 24 --learning-rate 0.0015 --augment 0
stage augmented "$(part 76)" --init-from "$runs/clean/last" "$data/short" "$data/synthetic" "$data/real=8" --curriculum 0 \
    --batch-seconds 32 --learning-rate 0.0012 --augment 0.4 --augment-after 99
