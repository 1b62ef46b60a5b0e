#!/usr/bin/env bash
# Links the shared library from the static one, so that it has a SONAME, versions on its symbols, and exports nothing
# else: link.sh ARCHIVE OUTPUT SONAME MAP LIBS.
set -euo pipefail
archive=$1 output=$2 soname=$3 map=$4 libs=$5
directory=$(dirname "$output")
mkdir -p "$directory"

link=(-shared -o "$output.new")
link+=(-Wl,--whole-archive "$archive" -Wl,--no-whole-archive)
link+=(-Wl,--gc-sections -Wl,-O1 -Wl,--as-needed)
link+=(-Wl,--version-script="$map" -Wl,-soname,"$soname")
link+=(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--no-undefined)
# What ships has no symbols but those it exports; what is tested keeps them for valgrind and for people.
if [ "${STRIP:-no}" = yes ]; then link+=(-s); fi

# shellcheck disable=SC2086 # The libraries are a list.
"${CC:-cc}" "${link[@]}" $libs
mv "$output.new" "$output"
ln -sf "$(basename "$output")" "$directory/$soname"
ln -sf "$soname" "$directory/libhailpost.so"
