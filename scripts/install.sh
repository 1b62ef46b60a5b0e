#!/usr/bin/env bash
# Installs what was built: install.sh SO ARCHIVE PROGRAM. Reads PREFIX, DESTDIR, VERSION, SOMAJOR and LIBS.
set -euo pipefail
so=$1 archive=$2 program=$3
root=$DESTDIR$PREFIX

put() { install -D -m "$1" "$2" "$root/$3" && echo "installed $PREFIX/$3"; }
fill() { sed -e "s|@PREFIX@|$PREFIX|" -e "s|@VERSION@|$VERSION|" -e "s|@SOMAJOR@|$SOMAJOR|" -e "s|@LIBS@|$LIBS|" "$1"; }

put 755 "$so" "lib/libhailpost.so.$VERSION"
ln -sf "libhailpost.so.$VERSION" "$root/lib/libhailpost.so.$SOMAJOR"
ln -sf "libhailpost.so.$SOMAJOR" "$root/lib/libhailpost.so"
put 644 "$archive" lib/libhailpost.a
put 644 include/hailpost.h include/hailpost.h
put 644 bindings/cpp/hailpost.hpp include/hailpost.hpp
put 644 <(fill pkgconfig/hailpost.pc.in) lib/pkgconfig/hailpost.pc
put 644 <(fill pkgconfig/hailpost-config.cmake.in) lib/cmake/hailpost/hailpost-config.cmake
if [ -x "$program" ]; then put 755 "$program" bin/hailpost; fi

# The newest symbol version of glibc that is asked for is the oldest glibc that it runs on.
# Packed relocations ask for it without a symbol.
floor=$(objdump -Tp "$so" | sed 's/GLIBC_ABI_DT_RELR/GLIBC_2.36/' | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
echo "glibc floor: ${floor#GLIBC_} or later"
