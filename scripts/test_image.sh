#!/usr/bin/env bash
# Tests the image without a container engine: scripts/assemble_image.sh makes its folder, and the pods of the rendered chart run in
# it as a random user with group 0, with the root read-only and no environment but the chart's: init-db, check and the main job,
# from an S3 server found by DNS into a throwaway PostgreSQL. The rows must be those of a run outside of the folder.
# tests/image/check.py does it.
#
#   scripts/test_image.sh
#
# GRISTMILL and S3_SERVER name the programs; without them debug builds are made (or found). Needs root or user namespaces,
# PostgreSQL's programs, and what scripts/test_chart.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

fail() { echo "test_image.sh: $*" >&2; exit 1; }

# shellcheck source=scripts/chart_tools.sh
source scripts/chart_tools.sh

if [ -z "${GRISTMILL:-}" ] || [ -z "${S3_SERVER:-}" ]; then
    # The name of the server's file holds a checksum that only cargo knows.
    built=$(cargo build --locked --bin gristmill --bench s3_server --message-format=json-render-diagnostics)
    executable() { sed -n "s/.*\"name\":\"$1\".*\"executable\":\"\([^\"]*\)\".*/\1/p" <<< "$built" | tail -n 1; }
    GRISTMILL="${GRISTMILL:-$(executable gristmill)}"
    S3_SERVER="${S3_SERVER:-$(executable s3_server)}"
fi
for program in "$GRISTMILL" "$S3_SERVER"; do [ -x "$program" ] || fail "$program is no program"; done
GRISTMILL=$(realpath "$GRISTMILL")
S3_SERVER=$(realpath "$S3_SERVER")
export GRISTMILL S3_SERVER HELM="$helm"

exec "$python" -B tests/image/check.py
