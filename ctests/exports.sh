#!/usr/bin/env bash
# What the library exports is what the map lists is what the header declares, under one version; and it has its SONAME.
set -euo pipefail
stage=$1 so=$1/lib/libhailpost.so

exported=$(nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sort)
mapped=$(grep -o 'hail_[a-z0-9_]*' include/hailpost.map | sort | sed 's/$/@@HAIL_0.1/')
declared=$(grep -o '^[a-z].*\bhail_[a-z0-9_]*(' "$stage/include/hailpost.h" | grep -v '^typedef' |
    grep -o 'hail_[a-z0-9_]*($' | tr -d '(' | sort | sed 's/$/@@HAIL_0.1/')

diff <(echo "$exported") <(echo "$mapped")
diff <(echo "$mapped") <(echo "$declared")
# Read whole: `objdump | grep -q` fails now and then, when grep has found its line before objdump has written its last.
dynamic=$(objdump -p "$so")
grep -q 'SONAME *libhailpost.so.0$' <<<"$dynamic"
# Nothing of the C library's that a size-limited host would not have, and no second Rust runtime.
needed=$(awk '$1 == "NEEDED" { print $2 }' <<<"$dynamic")
[ -z "$(grep -vE '^(libc|libm|libgcc_s|ld-linux-x86-64)\.so' <<<"$needed")" ]
