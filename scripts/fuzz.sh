#!/usr/bin/env bash
# Runs the fuzz targets (labels, csv, footers, config), each for some time, from the committed corpus.
#
#   scripts/fuzz.sh [SECONDS [TARGET…]]     60 seconds each; exit code 1 if one crashes, hangs or takes more than 1 GiB
#
# Needs cargo-fuzz (`cargo install cargo-fuzz --locked`). What is found lies in fuzz/artifacts; once mended it belongs into
# fuzz/corpus, whose files tests/corrupt.rs reads in every run.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(labels csv footers config)
command -v cargo-fuzz > /dev/null || { echo "fuzz.sh: cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 69; }

# A stable compiler does for coverage counters; sanitizers look for faults of unsafe code, of which there is none here.
export RUSTC_BOOTSTRAP=1
options=(--sanitizer none --fuzz-dir fuzz)
cargo fuzz build "${options[@]}"

failed=()
for target in "${targets[@]}"; do
    # New inputs stay out of the committed corpus.
    found=$(mktemp -d)
    echo "== $target: $seconds s"
    cargo fuzz run "${options[@]}" "$target" "$found" "fuzz/corpus/$target" -- -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=1024 -max_len=32768 -print_final_stats=1 -verbosity=0 || failed+=("$target")
    rm -rf "$found"
done
[ "${#failed[@]}" -eq 0 ] || { echo "== failed: ${failed[*]}" >&2; exit 1; }
echo "== nothing found"
