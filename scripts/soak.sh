#!/usr/bin/env bash
# Injects faults in large numbers and prints a table per kind: injected, survived, rows compared. The last output is noted
# in docs/reliability.md. Bounded: every part has a number, and one that hangs is stopped after an hour.
#
#   scripts/soak.sh [--objects N] [--labels N] [--kills N] [--rounds N] [--seeds N] [--fuzz SECONDS] [--seed N] [PART…]
#
#   objects   changed Parquet objects through footer, decoding and aggregation      (--objects, 20000)
#   labels    changed label texts, by both engines                                  (--labels, 1000000)
#   kills     SIGKILL at random moments with a reader, and the libraries' traces    (--kills, 200)
#             four pods on one month, two of them killed each time                  (--rounds, 20)
#   faults    faults of storage and database, with so many seeds                    (--seeds, 50)
#   fuzz      the fuzz targets, so many seconds each                                (--fuzz, 60)
#
# All parts unless some are named. --seed is where the random numbers begin (4).
# Needs what scripts/test.sh needs; fuzz also needs cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
number() { [[ "${2:-}" =~ ^[0-9]+$ ]] || { echo "soak.sh: $1 needs a number" >&2; exit 64; }; }

objects=20000 labels=1000000 kills=200 rounds=20 seeds=50 fuzz=60 seed=4
parts=()
while [ $# -gt 0 ]; do
    case "$1" in
        --objects | --labels | --kills | --rounds | --seeds | --fuzz | --seed)
            number "$1" "${2:-}"
            printf -v "${1#--}" '%s' "$2"
            shift
            ;;
        objects | labels | kills | faults | fuzz) parts+=("$1") ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 64 ;;
    esac
    shift
done
[ "${#parts[@]}" -gt 0 ] || parts=(objects labels kills faults fuzz)

export SOAK_OBJECTS=$objects SOAK_LABELS=$labels SOAK_KILLS=$kills SOAK_ROUNDS=$rounds SOAK_SEEDS=$seeds SOAK_SEED=$seed
# Delayed requests wait so long; much less in the test suite.
export SOAK_DELAY_MILLIS=2000
test_of() { # test_of ARGUMENTS…: one part by cargo, its output shown
    timeout 3600 cargo test --locked "$@"
}

failed=()
for part in "${parts[@]}"; do
    start=$SECONDS
    echo "== $part (seed $seed)"
    case "$part" in
        objects) run=(test_of --no-default-features --test corrupt objects -- --nocapture) ;;
        # The second engine is part of the default features.
        labels) run=(test_of --test corrupt labels -- --nocapture) ;;
        kills) run=(test_of --no-default-features --test soak) ;;
        faults) run=(test_of --no-default-features --test it faults -- --nocapture) ;;
        fuzz) run=(scripts/fuzz.sh "$fuzz") ;;
    esac
    "${run[@]}" || failed+=("$part")
    echo "== $part: $((SECONDS - start)) s"
done
[ "${#failed[@]}" -eq 0 ] || { echo "== failed: ${failed[*]}" >&2; exit 1; }
echo "== all survived"
