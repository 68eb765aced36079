#!/usr/bin/env bash
# Installs what building and testing need on Debian or Ubuntu, as far as it is missing: a C compiler, PostgreSQL's
# programs (no server is started), Python and the Rust toolchain. Says what it will install and asks first on a terminal.
#
#   scripts/install_prerequisites.sh [-y] [--tests]
#       -y       do not ask
#       --tests  also what only tests need: npm and Python's venv, which fetch the chart's tools, and jq, which the chart's
#                notes use
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "install_prerequisites.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

answer=ask
for_tests=no
for argument in "$@"; do
    case "$argument" in
        -y) answer=yes ;;
        --tests) for_tests=yes ;;
        *) fail "usage: $0 [-y] [--tests]" ;;
    esac
done
[ -t 0 ] || answer=yes # nobody is there to ask
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

rust_version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

has() { command -v "$1" > /dev/null 2>&1; }

has_postgres() { has psql && { has initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null; }; }

has_rust() {
    has cargo && cargo fmt --version > /dev/null 2>&1 && cargo clippy --version > /dev/null 2>&1 || return 1
    local found
    found=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$rust_version" "$found" | sort -V | head -n 1)" = "$rust_version" ]
}

# --- what is missing -------------------------------------------------------------------------------------------------
packages=()
if ! has cc || ! has make; then packages+=(build-essential); fi
if ! has openssl; then packages+=(openssl); fi
if ! has_postgres; then packages+=(postgresql); fi
if ! has python3; then packages+=(python3); fi
if [ $for_tests = yes ]; then
    if ! has npm; then packages+=(npm); fi
    if ! has jq; then packages+=(jq); fi
    if ! python3 -c 'import ensurepip, venv' 2> /dev/null; then packages+=(python3-venv); fi
fi
need_rust=no
if ! has_rust; then
    need_rust=yes
    if ! has rustup && ! has curl; then packages+=(curl ca-certificates); fi
fi
if [ ${#packages[@]} = 0 ] && [ $need_rust = no ]; then exit 0; fi

# --- say it and ask --------------------------------------------------------------------------------------------------
say "this will be installed:"
if [ ${#packages[@]} -gt 0 ]; then say "  with apt-get: ${packages[*]}"; fi
if [ $need_rust = yes ]; then say "  with rustup, for this user: Rust $rust_version with rustfmt and clippy"; fi
if [ $answer = ask ]; then
    read -r -p "Go on? [y/N] " reply
    case "$reply" in y | Y | yes) ;; *) fail "nothing was installed" ;; esac
fi

# --- install ---------------------------------------------------------------------------------------------------------
if [ ${#packages[@]} -gt 0 ]; then
    has apt-get || fail "this is not Debian or Ubuntu; install the equivalents of: ${packages[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        has sudo || fail "run as root: apt-get install ${packages[*]}"
        as_root=(sudo)
    fi
    apt_install() {
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    }
    "${as_root[@]}" apt-get update
    if [[ " ${packages[*]} " == *" postgresql "* ]]; then
        # Debian starts a server on port 5432 with the package, unless it is told not to between these two steps.
        apt_install postgresql-common
        configuration=/etc/postgresql-common/createcluster.conf
        "${as_root[@]}" sed -i -E 's/^#?\s*create_main_cluster\s*=.*$/create_main_cluster = false/' "$configuration"
        grep -q '^create_main_cluster = false' "$configuration" ||
            echo 'create_main_cluster = false' | "${as_root[@]}" tee -a "$configuration" > /dev/null
    fi
    apt_install "${packages[@]}"
fi

if [ $need_rust = yes ]; then
    if has rustup; then
        # Only for this folder: the user's default toolchain stays what it is.
        rustup toolchain install "$rust_version" --profile minimal --component rustfmt --component clippy
        rustup override set "$rust_version"
    else
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --no-modify-path --profile minimal --component rustfmt --component clippy \
                --default-toolchain "$rust_version"
        say "Rust lies in ${CARGO_HOME:-$HOME/.cargo}/bin; add that to PATH to use it elsewhere"
    fi
    has_rust || fail "Rust $rust_version or newer is still not the one in PATH: $(command -v rustc || echo none)"
fi
