#!/usr/bin/env bash
# Installs what the build needs and this Debian or Ubuntu machine lacks. Prints what it does; does nothing twice.
set -euo pipefail

packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need gcc gcc
need g++ g++
need make make
need cmake cmake # compiles libopus
need pkg-config pkg-config
[ -e /usr/include/stdio.h ] || packages+=(libc6-dev)

if [ ${#packages[@]} -gt 0 ]; then
    sudo=()
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
    command -v apt-get >/dev/null || { echo "please install: ${packages[*]}" >&2; exit 1; }
    echo "installing system packages: ${packages[*]}" >&2
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
fi

# rustup's cargo is on the path only of shells started after its installation.
command -v cargo >/dev/null || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] || {
    echo "Rust is missing; install it with:  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
    exit 1
}
