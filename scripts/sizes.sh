#!/usr/bin/env bash
# The shared library as it ships, stripped, by build profile: sizes.sh [FEATURES...]. Each is a build of its own, kept in
# build/sizes.
set -euo pipefail
cd "$(dirname "$0")/.."
profiles=("$@")
[ ${#profiles[@]} -gt 0 ] || profiles=(gateway gateway,tls gateway,backend default)

printf '%-18s %9s\n' features octets
for profile in "${profiles[@]}"; do
    features=${profile/#default/}
    make -s lib PROFILE=dist FEATURES="$features" BUILD="build/sizes/$profile" >/dev/null 2>build/sizes.log ||
        { cat build/sizes.log >&2; exit 1; }
    printf '%-18s %9d\n' "$profile" "$(stat -L -c %s "build/sizes/$profile/libhailpost.so")"
done
