#!/usr/bin/env bash
# The whole program, from objects in S3 to rows in PostgreSQL, verified first and then timed, at growing scales.
#
#   scripts/run_streaming_benchmark.sh [scale…] [--target postgres|none|both] [--runs N] [--main-only] …   (--help: all)
#
# Each scale: get data (nise and `gristmill convert` for the first two, `gristmill generate` for the others), upload to
# S3_ENDPOINT (with S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY) or to an S3 server of its own, one run that `gristmill verify`
# recomputes, one warm-up, at least three counted runs, each with the verified run's counts and sums (benchmarks/README.md).
# A failed check stops everything and nothing is recorded.
# Needs PostgreSQL's programs, Python 3.11 with venv, and Rust. Results: benchmarks/results/<date>-<machine>/; data and
# nise's virtual environment stay in ${XDG_CACHE_HOME:-~/.cache}/gristmill/benchmarks and may be removed at any time.
set -euo pipefail
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || {
    echo "run_streaming_benchmark.sh: Python 3.11 or newer is not installed; on Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    exit 1
}
# Without bytecode files: nothing is left in the repository but results.
exec python3 -B "$(dirname "$0")/../benchmarks/e2e/streaming.py" "$@"
