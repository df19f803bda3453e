#!/usr/bin/env bash
# Builds dfcnn if need be and transcribes: scripts/transcribe.sh FILE… (any option of `dfcnn transcribe` works too).
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$project/scripts/prepare.sh"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
exec cargo run --manifest-path "$project/Cargo.toml" --release --locked --quiet -- transcribe "$@"
