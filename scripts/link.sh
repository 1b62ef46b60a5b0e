#!/usr/bin/env bash
# Links the shared library from the static one, so that it has a SONAME, versions on its symbols, and exports nothing
# else: link.sh ARCHIVE OUTPUT SONAME MAP LIBS.
#
# RELR=no keeps relocations as glibc before 2.36 reads them, for a library that is to run on older systems than the one it
# is linked on.
set -euo pipefail
archive=$1 output=$2 soname=$3 map=$4 libs=$5
directory=$(dirname "$output")
mkdir -p "$directory"

link=(-shared -o "$output.new")
link+=(-Wl,--whole-archive "$archive" -Wl,--no-whole-archive)
link+=(-Wl,--gc-sections -Wl,-O1 -Wl,--as-needed)
link+=(-Wl,--version-script="$map" -Wl,-soname,"$soname")
link+=(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--no-undefined)
link+=(-Wl,-T,"$(dirname "$0")/seldom.ld")
# Packed relocations are 70 KB less, where the libc that is linked against says that it reads them.
libc=$("${CC:-cc}" -print-file-name=libc.so.6)
if [ "${RELR:-yes}" = yes ] && grep -q GLIBC_ABI_DT_RELR "$libc" 2>/dev/null; then
    link+=(-Wl,-z,pack-relative-relocs)
fi
# What ships has no symbols but those it exports; what is tested keeps them for valgrind and for people.
if [ "${STRIP:-no}" = yes ]; then link+=(-s); fi

# shellcheck disable=SC2086 # The libraries are a list.
"${CC:-cc}" "${link[@]}" $libs
mv "$output.new" "$output"
ln -sf "$(basename "$output")" "$directory/$soname"
ln -sf "$soname" "$directory/libhailpost.so"
