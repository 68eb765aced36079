#!/usr/bin/env bash
# A PostgreSQL that lives as long as its caller wants: tests and the demo share it.
#
#   scripts/throwaway_postgres.sh serve [SETTING=VALUE…]
#   PGPASSWORD=… scripts/throwaway_postgres.sh follow PORT [SETTING=VALUE…]
#
# The first makes a cluster in a temporary folder, starts it on a free loopback port, prints one line
#   ready host=127.0.0.1 port=… user=postgres password=… database=postgres ca_file=… socket_folder=…
# and waits for the end of its standard input; then it stops the server and removes the folder. The same happens on
# TERM, INT and every other way out. TLS is on; the certificate is for the name `localhost` only and signed by ca_file.
# The second does the same with a copy of the throwaway server on PORT: a hot standby that follows it and takes no writes.
# Each SETTING is one of PostgreSQL's, as in `shared_buffers=1GB`, and wins over what is set here.
# Nothing is durable (fsync is off): never keep anything in it.
set -euo pipefail

fail() { echo "throwaway_postgres.sh: $*" >&2; exit 1; }

usage="usage: $0 serve [SETTING=VALUE…] | follow PORT [SETTING=VALUE…]"
primary=
case "${1:-}" in
    serve) shift ;;
    follow)
        primary=${2:-}
        if [[ ! $primary =~ ^[0-9]+$ ]] || [ -z "${PGPASSWORD:-}" ]; then fail "$usage"; fi
        shift 2
        ;;
    *) fail "$usage" ;;
esac
settings=()
for setting in "$@"; do
    [[ $setting =~ ^[a-z_.]+=.+$ ]] || fail "not a setting of the form name=value: $setting"
    settings+=(-c "$setting")
done

find_programs() {
    local folder
    # The newest version first; Debian keeps initdb out of PATH.
    while read -r folder; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then echo "$folder"; return; fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5 -V -r)
    folder=$(command -v initdb || true)
    if [ -n "$folder" ]; then
        folder=$(dirname "$(readlink -f "$folder")")
        if [ -x "$folder/postgres" ]; then echo "$folder"; return; fi
    fi
    return 1
}

programs=$(find_programs) || fail "PostgreSQL is not installed; on Debian or Ubuntu: apt-get install postgresql"
command -v openssl > /dev/null || fail "openssl is not installed; on Debian or Ubuntu: apt-get install openssl"

# initdb refuses root, so root hands over to an unprivileged user who can reach the folder.
run_as=()
owner=
if [ "$(id -u)" = 0 ]; then
    if id postgres > /dev/null 2>&1; then owner=postgres; else owner=nobody; fi
    command -v setpriv > /dev/null || fail "setpriv is not installed; on Debian or Ubuntu: apt-get install util-linux"
    run_as=(setpriv "--reuid=$(id -u "$owner")" "--regid=$(id -g "$owner")" --clear-groups --)
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/gristmill-postgres.XXXXXX")
server=

finish() {
    trap - EXIT TERM INT HUP
    if [ -n "$server" ]; then
        # Fast shutdown: open sessions are cut; then wait so that the folder is really unused.
        kill -INT "$server" 2> /dev/null || true
        for _ in $(seq 100); do kill -0 "$server" 2> /dev/null || break; sleep 0.1; done
        kill -QUIT "$server" 2> /dev/null || true
        wait "$server" 2> /dev/null || true
    fi
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT HUP

cd "$folder"
if [ -n "$primary" ]; then password=$PGPASSWORD; else password=$(openssl rand -hex 16); fi
(
    umask 077
    printf '%s\n' "$password" > password
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=throwaway authority" \
        -addext "basicConstraints=critical,CA:TRUE" -keyout ca.key -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" -keyout server.key \
        -out server.csr
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' > extensions
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2 -extfile extensions -out server.pem
) > openssl.log 2>&1 || fail "openssl failed: $(tail -n 3 openssl.log)"
chmod 755 "$folder"
chmod 644 ca.pem
[ -z "$owner" ] || chown -R "$owner" "$folder"

if [ -n "$primary" ]; then
    "${run_as[@]}" "$programs/pg_basebackup" --pgdata="$folder/data" --host=127.0.0.1 --port="$primary" --username=postgres \
        --write-recovery-conf --wal-method=stream --checkpoint=fast --no-sync > basebackup.log 2>&1 \
        || fail "pg_basebackup failed: $(tail -n 5 basebackup.log)"
else
    "${run_as[@]}" "$programs/initdb" --pgdata="$folder/data" --username=postgres --pwfile="$folder/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync > initdb.log 2>&1 \
        || fail "initdb failed: $(tail -n 5 initdb.log)"
fi

answers() { # whether the server accepts connections on port $1
    "$programs/pg_isready" -q -h 127.0.0.1 -p "$1" -t 1
}

# Another process may take a port between looking and listening, so: try, and take the next one if it did not start.
for _ in $(seq 20); do
    port=$((20000 + RANDOM % 12000))
    if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then continue; fi
    "${run_as[@]}" "$programs/postgres" -D "$folder/data" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories="$folder" -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
        -c max_connections=200 -c shared_buffers=64MB -c ssl=on -c ssl_cert_file="$folder/server.pem" \
        -c ssl_key_file="$folder/server.key" "${settings[@]}" < /dev/null > server.log 2>&1 &
    server=$!
    for _ in $(seq 150); do
        kill -0 "$server" 2> /dev/null || break
        if answers "$port"; then
            echo "ready host=127.0.0.1 port=$port user=postgres password=$password database=postgres ca_file=$folder/ca.pem socket_folder=$folder"
            # Until the caller closes our standard input, by intent or because it died.
            while read -r _; do :; done
            exit 0
        fi
        sleep 0.1
    done
    kill -INT "$server" 2> /dev/null || true
    wait "$server" 2> /dev/null || true
    server=
done
fail "the server did not start: $(tail -n 5 server.log)"
