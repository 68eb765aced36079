#!/usr/bin/env bash
# The daily summary by gristmill, DuckDB, chdb, Polars, DataFusion and PostgreSQL on the same files, side by side.
#
#   benchmarks/peers/run.sh [--rows N] [--runs N] [--shape N] [--without PEER] …   (--help: all)
#
# Installs the pinned packages of requirements.txt (about 1.3 GB) into a virtual environment below the cache folder and says
# so. Also `gristmill convert` beside DuckDB's COPY of the same CSV. Needs PostgreSQL's programs (or --without postgres), Python
# 3.11 with venv, and Rust. Every peer's rows must equal gristmill's (benchmarks/README.md says how far that is checked), or
# nothing is recorded. Results: benchmarks/results/<date>-<machine>-peers/.
set -euo pipefail
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || {
    echo "run.sh: Python 3.11 or newer is not installed; on Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    exit 1
}
exec python3 -B "$(dirname "$0")/run.py" "$@"
