#!/usr/bin/env bash
# The shared library as it ships, stripped, by build profile: sizes.sh [FEATURES...]. Each is a build of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
profiles=("$@")
[ ${#profiles[@]} -gt 0 ] || profiles=(gateway gateway,tls gateway,backend "")

printf '%-18s %9s\n' features octets
for features in "${profiles[@]}"; do
    make -s lib PROFILE=dist FEATURES="$features" BUILD=build/sizes >/dev/null 2>build/sizes.log ||
        { cat build/sizes.log >&2; exit 1; }
    printf '%-18s %9d\n' "${features:-default}" "$(stat -c %s build/sizes/libhailpost.so.0.1.0)"
done
