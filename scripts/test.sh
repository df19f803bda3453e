#!/usr/bin/env bash
# Runs all tests: scripts/test.sh (any option of `cargo test` works too).
set -euo pipefail
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$project/scripts/prepare.sh"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
exec cargo test --manifest-path "$project/Cargo.toml" --locked "$@"
