#!/usr/bin/env bash
# From nothing to a result: builds gristmill, makes a small month of usage, runs the main job and prints the ten largest
# namespaces. Writes into a throwaway PostgreSQL; where none can be started, into CSV files.
#
#   scripts/demo.sh [-y] [--keep] [--rows N]
#       -y        do not ask before installing what is missing
#       --keep    leave data, configuration and report behind
#       --rows N  hourly pod rows to make (default 500000)
set -euo pipefail
cd "$(dirname "$0")/.."

keep=no
rows=500000
install=()
while [ $# -gt 0 ]; do
    case "$1" in
        -y) install=(-y) ;;
        --keep) keep=yes ;;
        --rows) rows=${2:?--rows needs a number}; shift ;;
        *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 64 ;;
    esac
    shift
done

./scripts/install_prerequisites.sh "${install[@]}"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

echo "== building (the first time takes some minutes)"
# The second engine takes longer to build than everything else together, and the demo does not compare.
cargo build --locked --profile demo --no-default-features --bin gristmill
gristmill="$CARGO_TARGET_DIR/demo/gristmill"

folder=$(mktemp -d "${TMPDIR:-/tmp}/gristmill-demo.XXXXXX")
server=
finish() {
    if [ -n "$server" ]; then
        exec 9>&- # the server ends when its standard input does
        wait "$server" || true
    fi
    if [ $keep = no ]; then rm -rf "$folder"; fi
}
trap finish EXIT

# --- a month of data -------------------------------------------------------------------------------------------------
org=org1234567
source=00000000-0000-4000-8000-000000000001
echo "== making $rows hourly pod rows"
"$gristmill" generate --rows "$rows" --days 30 --start-date 2025-10-01 --seed 1 --labels json --storage \
    --org-id $org --source-uuid $source --cluster-id demo-cluster --out "$folder/usage"

# --- a database, if one can be started -------------------------------------------------------------------------------
start_postgres() {
    local ready field
    mkfifo "$folder/control"
    touch "$folder/postgres.ready"
    ./scripts/throwaway_postgres.sh serve > "$folder/postgres.ready" 2> "$folder/postgres.log" < "$folder/control" &
    server=$!
    exec 9> "$folder/control"
    for _ in $(seq 600); do
        ready=$(head -n 1 "$folder/postgres.ready")
        if [[ "$ready" == "ready "* ]]; then
            for field in ${ready#ready }; do
                case "$field" in
                    host=*) export PGHOST="${field#*=}" ;;
                    port=*) export PGPORT="${field#*=}" ;;
                    user=*) export PGUSER="${field#*=}" ;;
                    password=*) export PGPASSWORD="${field#*=}" ;;
                    database=*) export PGDATABASE="${field#*=}" ;;
                esac
            done
            return 0
        fi
        kill -0 "$server" 2> /dev/null || break
        sleep 0.1
    done
    echo "no PostgreSQL could be started, so the result goes into CSV files:" >&2
    tail -n 3 "$folder/postgres.log" >&2
    return 1
}

if start_postgres; then
    use_postgres=yes
    where="table $org.reporting_ocpusagelineitem_daily_summary of the throwaway PostgreSQL"
    target="  kind: postgres
  postgres:
    host: \${PGHOST}
    port: \${PGPORT}
    database: \${PGDATABASE}
    user: \${PGUSER}
    password: \${PGPASSWORD}
    schema: $org
    ssl_mode: disable"
else
    use_postgres=no
    where="CSV files in $folder/result"
    target="  kind: file
  file:
    path: $folder/result
    format: csv"
fi

# --- the main job ----------------------------------------------------------------------------------------------------
cat > "$folder/config.yaml" << END
version: 1
organization: {org_id: $org}
source: {uuid: "$source", cluster_id: demo-cluster, cluster_alias: Demo, report_period_id: 1}
period: {start_date: 2025-10-01, end_date: 2025-10-30}
storage: {url: "file://$folder/usage"}
target:
$target
reference:
  from: inline
  enabled_tag_keys: [app, environment, team, cost_center]
  cost_categories: [{namespace: "openshift-%", cost_category_id: 1}, {namespace: "kube-%", cost_category_id: 1}]
  node_roles: derive
END
if [ $use_postgres = yes ]; then
    echo "== preparing the database"
    "$gristmill" init-db --config "$folder/config.yaml"
fi
echo "== grinding the month into daily rows"
# Where standard output is no terminal the report follows its table as one long line of JSON; it is in the file anyway.
"$gristmill" run --config "$folder/config.yaml" --report "$folder/report.json" | sed '/^{.*}$/d'

# --- the result ------------------------------------------------------------------------------------------------------
echo
echo "The ten largest namespaces by CPU core-hours:"
if [ $use_postgres = yes ]; then
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 << END
select namespace, round(sum(pod_usage_cpu_core_hours), 1) as cpu_core_hours
from $org.reporting_ocpusagelineitem_daily_summary
where data_source = 'Pod' and namespace not in ('Platform unallocated', 'Worker unallocated')
group by namespace order by sum(pod_usage_cpu_core_hours) desc, namespace limit 10
END
else
    # Quoted fields (the labels) hold commas: put a letter in their place before the line is split.
    awk -F, '
        { gsub(/"([^"]|"")*"/, "q") }
        FNR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $at["data_source"] == "Pod" && $at["namespace"] !~ / unallocated$/ {
            sum[$at["namespace"]] += $at["pod_usage_cpu_core_hours"]
        }
        END { for (name in sum) printf "%14.1f  %s\n", sum[name], name }
    ' "$folder"/result/*.csv | sort -k1,1 -n -r | head -n 10
fi

echo
echo "source: $folder/usage, result: $where, report: $folder/report.json"
if [ $keep = no ]; then
    echo "All of it is removed now; --keep leaves the folder."
else
    echo "The folder stays; the throwaway PostgreSQL ends with this script."
fi
