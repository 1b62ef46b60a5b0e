#!/usr/bin/env bash
# Installs what this machine lacks for a purpose: Debian packages, and a Python environment.
#   scripts/setup.sh [VENV [demo|test|bench]]
# Says what it installs, asks nothing, changes nothing when all is there.
set -euo pipefail
venv=${1:-.venv} purpose=${2:-test}

need=()
have() { [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == *'install ok installed'* ]]; }
want() { have "$1" || need+=("$1"); }

command -v cc >/dev/null || want gcc
command -v pkg-config >/dev/null || want pkg-config
if [ "$purpose" = test ]; then
    command -v valgrind >/dev/null || want valgrind
    command -v g++ >/dev/null || want g++
    want dnsmasq-base
fi
if [ "$purpose" = bench ]; then
    command -v ndpiReader >/dev/null || want libndpi-bin
    want libmosquitto-dev
    want mosquitto
fi
python3 -c 'import ensurepip, venv' 2>/dev/null || want python3-venv

if [ ${#need[@]} -gt 0 ]; then
    line="apt-get install -y --no-install-recommends ${need[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: this needs root, once: sudo $line" >&2
        exit 2
    fi
    echo "setup: $line"
    export DEBIAN_FRONTEND=noninteractive
    # What a package would serve is not to be started in a container, where nobody asked for it.
    policy=/usr/sbin/policy-rc.d
    if [ ! -d /run/systemd/system ] && [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f $policy' EXIT
    fi
    apt-get -o DPkg::Lock::Timeout=500 update -qq
    apt-get -o DPkg::Lock::Timeout=500 install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

command -v cargo >/dev/null || {
    echo "setup: cargo is missing: install Rust 1.89 or later (https://rustup.rs)" >&2
    exit 2
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    echo "setup: python3 -m venv $venv"
    python3 -m venv "$venv"
fi
[ "$purpose" = test ] || exit 0
stamp=$venv/.hailpost-requirements
if ! cmp -s scripts/requirements.txt "$stamp"; then
    echo "setup: pip install -r scripts/requirements.txt (in $venv)"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/requirements.txt
    cp scripts/requirements.txt "$stamp"
fi
