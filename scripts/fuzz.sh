#!/usr/bin/env bash
# Coverage-guided fuzzing on stable Rust: every target for SECONDS each, starting from the corpus in the tree.
#   scripts/fuzz.sh SECONDS [TARGET ...]
# With ASAN=1 also under the address sanitizer. A crash is kept in build/fuzz and ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?seconds a target}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(messages ends captures clocks rules names link app frames inner peers asks)

flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-trace-compares"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Ccodegen-units=1 --cfg fuzzing"
dir=target/fuzz
if [ -n "${ASAN:-}" ]; then
    flags+=" -Zsanitizer=address"
    export RUSTC_BOOTSTRAP=1
    # SQLite's C is linked into what is instrumented once more than the sanitizer likes.
    export ASAN_OPTIONS=detect_odr_violation=0
    dir=target/fuzz-asan
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags stay away from build scripts.
RUSTFLAGS="$flags" cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$dir"

mkdir -p build/fuzz
for target in "${targets[@]}"; do
    corpus=build/fuzz/$target
    mkdir -p "$corpus" "fuzz/corpus/$target"
    log=build/fuzz/$target.log
    echo "fuzz: $target for $seconds s"
    if ! "$dir/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=8192 \
        -print_final_stats=1 -artifact_prefix="build/fuzz/$target-" "$corpus" "fuzz/corpus/$target" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz: $target failed; the input is build/fuzz/$target-*, the log $log" >&2
        exit 1
    fi
    grep -E 'DONE|stat::(number_of_executed_units|peak_rss_mb)' "$log"
done
