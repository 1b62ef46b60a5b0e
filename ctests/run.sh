#!/usr/bin/env bash
# Builds every C and C++ program here against an installed tree, with nothing but what pkg-config says, and runs each
# plain, under valgrind, and with the address and undefined-behaviour sanitizers: run.sh STAGE OUT [PROGRAM...].
set -euo pipefail
cd "$(dirname "$0")/.."
stage=$(realpath "$1") out=$2
shift 2
only=("$@")
mkdir -p "$out"

export PKG_CONFIG_PATH=$stage/lib/pkgconfig LD_LIBRARY_PATH=$stage/lib
export HAILPOST_SHARED=${HAILPOST_SHARED:-$PWD/../shared}
cc=${CC:-cc} cxx=${CXX:-c++}
read -ra flags <<<"$(pkg-config --cflags --libs hailpost)"
strict=(-Wall -Wextra -Wpedantic -Werror)
c=("$cc" -std=c11 -D_GNU_SOURCE "${strict[@]}" -O1 -g)
cpp=("$cxx" -std=c++17 "${strict[@]}" -O1 -g)
sanitize=(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
valgrind=(valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,possible
    --errors-for-leak-kinds=definite,possible --suppressions=ctests/valgrind.supp)
failed=0

step() {
    local title=$1
    shift
    if "$@" >"$out/log" 2>&1; then
        # A test that leaves something out says so, once.
        [[ $title == *" "* ]] || grep -h SKIPPED "$out/log" || true
    else
        echo "FAILED: $title" >&2
        head -n 12 "$out/log" | cut -c 1-160 | sed 's/^/    /' >&2
        failed=1
    fi
}

wanted() { [ ${#only[@]} -eq 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }

program() {
    local source=$1 name compile
    name=$(basename "${source%.*}")
    wanted "$name" || return 0
    compile=("${c[@]}")
    [[ $source == *.cpp ]] && compile=("${cpp[@]}")
    step "$name: build" "${compile[@]}" -o "$out/$name" "$source" -pthread "${flags[@]}"
    step "$name: build with sanitizers" "${compile[@]}" "${sanitize[@]}" -o "$out/$name.san" "$source" -pthread "${flags[@]}"
    [ $failed = 0 ] || return 0
    if [[ $source != ctests/* ]]; then
        echo "ok $name (built)"
        return 0
    fi
    step "$name" "$out/$name"
    [ $failed = 0 ] || return 0
    step "$name under valgrind" "${valgrind[@]}" "$out/$name"
    step "$name with sanitizers" "$out/$name.san"
    [ $failed = 0 ] && echo "ok $name"
}

if wanted header; then
    for standard in c99 c11; do
        step "header as $standard" "$cc" -std=$standard "${strict[@]}" -fsyntax-only -x c "$stage/include/hailpost.h"
    done
    step "header as c++17" "$cxx" -std=c++17 "${strict[@]}" -fsyntax-only -x c++ "$stage/include/hailpost.h"
    step "exports are map are header" ctests/exports.sh "$stage"
    [ $failed = 0 ] && echo "ok header"
fi
if wanted qos; then
    # One UDP packet that asks a name of a server, with its answer's direction left out: enough for a rule.
    "$cc" -o "$out/qos" examples/c/qos.c "${flags[@]}"
    dns='\0\071\105\0\0\071\0\0\100\0\100\021\0\0\300\250\1\2\311\0\161\11\234\100\0\065\0\045\0\0'
    dns+='\22\64\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1'
    # The mark comes while the flow goes on: nothing has ended yet when it is read.
    coproc qos { exec "$out/qos"; }
    printf "$dns" >&"${qos[1]}"
    mark=
    IFS= read -r -t 60 mark <&"${qos[0]}" || true
    exec {qos[1]}>&-
    wait "$qos_PID" || failed=1
    if [[ $mark == 'add element inet qos normal { '*' . 53 timeout 1h } # dns' ]]; then
        echo "ok qos"
    else
        echo "FAILED: qos: said '$mark'" >&2
        failed=1
    fi
fi
# Examples first: a test runs one of them.
for source in examples/c/*.c ctests/*.c ctests/*.cpp; do
    [ -e "$source" ] && program "$source"
done
exit $failed
