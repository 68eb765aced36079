#!/usr/bin/env bash
# Everything that must pass before a change is accepted: format, lints, all tests, documentation, the chart, the image, and
# the checks of the benchmark (not the benchmark itself).
#
#   scripts/test.sh [-y]     installs what is missing; -y: do not ask
#
# The tests start their own throwaway PostgreSQL and S3 server. With CI set, the build folder lies in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_prerequisites.sh --tests "$@"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
if [ -n "${CI:-}" ]; then
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/gristmill/target}"
fi

durations=()
step() { # step NAME COMMAND…: runs it and remembers how long it took
    local name=$1 start=$SECONDS
    shift
    echo "== $name: $*"
    "$@" || { echo "== $name failed after $((SECONDS - start)) s" >&2; exit 1; }
    durations+=("$(printf '%-8s %5d s' "$name" $((SECONDS - start)))")
}

step format cargo fmt --check
step lints cargo clippy --locked --all-targets -- -D warnings
step tests cargo test --locked
step checks python3 -B benchmarks/e2e/test_checks.py
step chart scripts/test_chart.sh
step image scripts/test_image.sh
step docs env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

echo "== all passed"
printf '%s\n' "${durations[@]}"
