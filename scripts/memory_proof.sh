#!/usr/bin/env bash
# Proof that little memory ends well: ten million hourly rows inside 256 MiB give the same files as without a limit, and a day
# of a million label sets gives the same files or a stop with figures, once by the books and once, with a budget far above the
# limit, by the brake behind them. The kernel kills nothing.
#
#   scripts/memory_proof.sh [BINARY]      builds one (profile demo) if none is named
#
#   ROWS=10000000 DAYS=30 HOSTILE_ROWS=2000000 LIMIT_MIB=256   other sizes; every second hostile row has a label set of its own
#
# The limit is a real cgroup (v1 or v2) where this user may make one; elsewhere the program is told the limit and its measured
# peak must stay below. The last lines say which. Needs about 1.5 GB in TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."

rows=${ROWS:-10000000} days=${DAYS:-30} hostile_rows=${HOSTILE_ROWS:-2000000} limit_mib=${LIMIT_MIB:-256}
limit=$((limit_mib << 20))
folder=$(mktemp -d "${TMPDIR:-/tmp}/gristmill-memory.XXXXXX")
group=
end() {
    if [ -n "$group" ]; then rmdir "$group" 2> /dev/null || true; fi
    rm -rf "$folder"
}
trap end EXIT

binary=${1:-}
if [ -z "$binary" ]; then
    cargo build --locked --profile demo --no-default-features --bin gristmill
    binary=${CARGO_TARGET_DIR:-target}/demo/gristmill
fi

# A child of our own group; `how` says what came of it.
how="no cgroup can be made here: told limit, measured peak"
make_group() {
    local path
    path=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
    for parent in "/sys/fs/cgroup/memory$path" /sys/fs/cgroup/memory; do
        if [ -n "$path" ] && mkdir "$parent/gristmill-proof.$$" 2> /dev/null; then
            group=$parent/gristmill-proof.$$
            echo "$limit" > "$group/memory.limit_in_bytes" && how="cgroup v1" && return
        fi
    done
    path=$(sed -n 's/^0:://p' /proc/self/cgroup)
    for parent in "/sys/fs/cgroup$path" /sys/fs/cgroup; do
        if [ -f "$parent/cgroup.subtree_control" ] && mkdir "$parent/gristmill-proof.$$" 2> /dev/null; then
            group=$parent/gristmill-proof.$$
            echo +memory > "$parent/cgroup.subtree_control" 2> /dev/null || true
            if [ -f "$group/memory.max" ] && echo "$limit" > "$group/memory.max"; then
                echo 0 > "$group/memory.swap.max" 2> /dev/null || true
                how="cgroup v2" && return
            fi
            rmdir "$group"
        fi
    done
    group=
}
make_group

# confined COMMAND…: inside the group, or just so
confined() {
    if [ -n "$group" ]; then
        (echo "$BASHPID" > "$group/cgroup.procs" && exec "$@")
    else
        "$@"
    fi
}

config() { # config NAME TARGET_FOLDER DAYS
    local last
    last=$(date -u -d "2025-10-01 + $(($3 - 1)) days" +%F)
    cat << END
version: 1
organization: {org_id: org1234567}
source: {uuid: 672157e0-0000-4000-8000-000000000001, cluster_id: synthetic-cluster}
period: {start_date: 2025-10-01, end_date: $last}
storage: {url: "file://$folder/$1"}
target: {kind: file, file: {path: "$2", format: csv}}
reference:
  from: inline
  enabled_tag_keys: [app, component, environment, team, tier, version, statefulset_kubernetes_io_pod_name]
  node_roles: derive
END
}

field() { # field REPORT KEY: a number of the report
    sed -n "s/^  \"$2\": \([0-9.]*\),\{0,1\}\$/\1/p" "$1"
}

failed() {
    echo "memory_proof.sh: $*" >&2
    exit 1
}

# free DATA DAYS: a run without a limit, to compare with
free() {
    config "$1" "$folder/$1.free" "$2" > "$folder/free.yaml"
    "$binary" run --config "$folder/free.yaml" --set logging.level=warn --set performance.memory_budget=8GiB \
        --report "$folder/free.json" > /dev/null
    row "$1, no limit" - 0 $(($(field "$folder/free.json" peak_memory_bytes) >> 20)) - - "$(field "$folder/free.json" wall_seconds)"
}

row() {
    local IFS='|'
    echo "row: $*" >> "$folder/table"
}

# prove NAME DATA DAYS [--set KEY=VALUE]: the data inside the limit; a stop has to say what it needs.
prove() {
    local name=$1 data=$2 report=$folder/$1.json code=0 group_peak=- kills=- set=("${@:4}")
    config "$data" "$folder/$name.tight" "$3" > "$folder/tight.yaml"
    [ -n "$group" ] || set+=(--set "performance.memory_limit=${limit_mib}MiB")
    if [ -f "$group/memory.max_usage_in_bytes" ]; then echo 0 > "$group/memory.max_usage_in_bytes"; fi
    confined "$binary" run --config "$folder/tight.yaml" --set logging.level=warn "${set[@]}" --report "$report" \
        > "$folder/out" 2> "$folder/err" || code=$?
    local peak
    peak=$(field "$report" peak_memory_bytes) || failed "$name: no report, exit code $code: $(tail -3 "$folder/err")"
    [ -n "$peak" ] || failed "$name: no report, exit code $code: $(tail -3 "$folder/err")"
    if [ -f "$group/memory.max_usage_in_bytes" ]; then
        group_peak=$(($(cat "$group/memory.max_usage_in_bytes") >> 20))
        kills=$(sed -n 's/^oom_kill //p' "$group/memory.oom_control")
    elif [ -f "$group/memory.events" ]; then
        group_peak=$(($(cat "$group/memory.peak" 2> /dev/null || echo 0) >> 20))
        kills=$(sed -n 's/^oom_kill //p' "$group/memory.events")
    fi
    [ "$(field "$report" memory_limit_bytes)" = "$limit" ] || failed "$name: the program saw another limit"
    [ "$peak" -le "$limit" ] || failed "$name: peak of $peak bytes"
    case "$kills" in 0 | -) ;; *) failed "$name: the kernel killed $kills processes" ;; esac
    case $code in
        0) diff -r "$folder/$data.free" "$folder/$name.tight" > /dev/null || failed "$name: other files than without a limit" ;;
        78) for part in " needs " "the limit of state is" "it grows by"; do
                grep -q "$part" "$folder/err" || grep -q "the process holds" "$folder/err" || failed "$name: the stop does not say '$part'"
            done
            sed -n 's/^.*\(needs .*\)$/'"$name"' stopped: \1/p' "$folder/err" | tail -1 ;;
        *) failed "$name: exit code $code: $(tail -3 "$folder/err")" ;;
    esac
    row "$name" "$limit_mib MiB" $code $((peak >> 20)) "$group_peak" "$kills" "$(field "$report" wall_seconds)"
}

row "" limit "exit code" "peak resident, MiB" "peak of the group, MiB" kills seconds
"$binary" generate --out "$folder/usual" --rows "$rows" --days "$days" > /dev/null
free usual "$days"
prove usual usual "$days"
rm -rf "$folder"/usual*
"$binary" generate --out "$folder/hostile" --rows "$hostile_rows" --days 1 --hourly-labels > /dev/null
free hostile 1
prove hostile hostile 1
prove "hostile, large budget" hostile 1 --set performance.memory_budget=8GiB

echo "== memory proof: $rows rows over $days days, and a day of $((hostile_rows / 2)) label sets ($how)"
sed -n 's/^row: //p' "$folder/table" | column -t -s '|' 2> /dev/null || sed -n 's/^row: //p' "$folder/table"
