#!/usr/bin/env bash
# Makes the root file system of the image: the program and what it needs to run, and nothing else. No shell, nothing that
# can be written; everything belongs to the caller's user and can be read by anybody, so it runs under any uid.
#
#   scripts/assemble_image.sh BINARY FOLDER     FOLDER must not exist, or be empty
#
# The Dockerfile uses it, and scripts/test_image.sh changes root into its result. What is copied:
#   - the program as /usr/bin/gristmill
#   - every shared object that ldd names, and the loader, at its path; so it works on amd64 and arm64 alike
#   - before glibc 2.34 also the resolver's plug-ins, which no ldd shows: later ones have them inside libc
#   - nsswitch.conf (names: files, then DNS), the system's certificate authorities, minimal passwd and group
#   - empty /tmp, /proc, /sys and /dev, where a container runtime mounts
set -euo pipefail

fail() { echo "assemble_image.sh: $*" >&2; exit 1; }

[ $# = 2 ] || fail "usage: $0 BINARY FOLDER"
binary=$1
folder=$2
[ -f "$binary" ] && [ -x "$binary" ] || fail "$binary is no program"
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then fail "$folder is not empty"; fi

umask 022
mkdir -p "$folder"/{dev,etc/ssl/certs,proc,sys,tmp,usr/bin}
cp "$binary" "$folder/usr/bin/gristmill"

# --- shared objects --------------------------------------------------------------------------------------------------
listed=$(ldd "$binary") || fail "ldd cannot read $binary: it must be dynamically linked, and for this machine"
if grep -q 'not found' <<< "$listed"; then fail "shared objects are missing here: $listed"; fi
# Lines are `name => /path (address)`, and `/path (address)` for the loader; the kernel's own object has no path.
objects=$(awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' <<< "$listed")
libc=$(grep -m 1 '/libc\.so\.' <<< "$objects") || fail "$binary is not linked against glibc"
# The loader finds libc without a cache, so it finds what lies beside libc.
libraries=$(dirname "$libc")

copy() { # copy FROM TO: a file at a path of the image, links followed
    mkdir -p "$folder$(dirname "$2")"
    cp -L "$1" "$folder$2"
}

while read -r object; do
    case "$object" in
        */ld-*.so* | */ld.so*) copy "$object" "$object" ;; # its path stands in the program
        *) copy "$object" "$libraries/$(basename "$object")" ;;
    esac
done <<< "$objects"

glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
if [ "$(printf '%s\n' "$glibc" 2.34 | sort -V | head -n 1)" != 2.34 ]; then
    for name in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
        [ -e "$libraries/$name" ] || fail "glibc $glibc resolves names with $libraries/$name, which is missing"
        copy "$libraries/$name" "$libraries/$name"
    done
fi

# --- files that libraries read ---------------------------------------------------------------------------------------
authorities=
for candidate in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
    if [ -s "$candidate" ]; then authorities=$candidate; break; fi
done
[ -n "$authorities" ] || fail "no certificate authorities here; on Debian or Ubuntu: apt-get install ca-certificates"
copy "$authorities" /etc/ssl/certs/ca-certificates.crt

echo 'hosts: files dns' > "$folder/etc/nsswitch.conf"
# The names are for people who look at a process; any other uid works as well.
printf '%s\n' 'root:x:0:0::/:/nologin' 'gristmill:x:65532:0::/:/nologin' > "$folder/etc/passwd"
echo 'root:x:0:' > "$folder/etc/group"

# --- read by everybody, written by nobody ----------------------------------------------------------------------------
find "$folder" -type d -exec chmod 0555 {} +
find "$folder" -type f -exec chmod 0444 {} +
chmod 0555 "$folder/usr/bin/gristmill"
find "$folder" -name 'ld*.so*' -type f -exec chmod 0555 {} +
