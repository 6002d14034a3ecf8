#!/usr/bin/env bash
# Runs clients and tools that others wrote against three memkv servers: pymemcache (with the integration tests that come with it),
# pylibmc, meta-memcache, php-memcached, nutcracker, the Prometheus exporter, and libmemcached's memccapable.
#
#   server/tests/foreign/run.sh target/release/memkv
#
# Installs what it needs on a bare Debian machine when run as root. The last line is "N passed, N failed"; the exit code is
# not 0 if anything failed.
set -euo pipefail

binary=$(realpath "${1:?usage: run.sh BINARY}")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
running=()
cleanup() {
    for pid in "${running[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

apt_install() {
    [ "$(id -u)" = 0 ] || { echo "missing: $*; run as root to have it installed" >&2; exit 1; }
    apt-get -qq update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

command -v memccapable >/dev/null || apt_install libmemcached-tools
command -v nutcracker >/dev/null || [ -x /usr/sbin/nutcracker ] || apt_install nutcracker
php -m 2>/dev/null | grep -qx memcached || apt_install php-cli php-memcached
command -v python3 >/dev/null || apt_install python3
# Debian ships venv apart from python3.
python3 -m venv "$work/venv" >/dev/null 2>&1 || { apt_install python3-venv; python3 -m venv --clear "$work/venv"; }
# pylibmc brings its own libmemcached in its wheel.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'pymemcache==4.0.0' 'pylibmc==1.6.3' \
    'meta-memcache==4.3.0' 'pytest==8.4.2'
python=$work/venv/bin/python

# wait_for FILE PATTERN PID: until the program has written the pattern.
wait_for() {
    for _ in $(seq 100); do
        grep -q "$2" "$1" && return
        kill -0 "$3" 2>/dev/null || break
        sleep 0.1
    done
    echo "no '$2' from a program:" >&2
    cat "$1" >&2
    exit 1
}

# wait_for_port PORT PID: until something listens there.
wait_for_port() {
    for _ in $(seq 100); do
        (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    echo "nothing listens on port $1" >&2
    exit 1
}

# start_server [FLAG...]: starts one and leaves its port in $port.
start_server() {
    local log=$work/log${#running[@]}
    : >"$log"
    "$binary" -p -1 -l 127.0.0.1 -u root "$@" 2>"$log" &
    running+=($!)
    wait_for "$log" ' ready on ' $!
    port=$(sed -n 's/.* ready on 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$log")
    [ -n "$port" ] || { echo "memkv did not say where it listens" >&2; cat "$log" >&2; exit 1; }
}

ports=()
for _ in 1 2 3; do
    start_server
    ports+=("$port")
done
servers=("${running[@]}")
start_server -A
stoppable=$port

passed=0
failed=0
# Adds up the "ok NAME" and "FAILED NAME" lines of one client's run.
count() {
    local name=$1 log=$2
    cat "$log"
    local ok bad
    ok=$(grep -c '^ok ' "$log" || true)
    bad=$(grep -c '^FAILED ' "$log" || true)
    # A run that did nothing at all has failed.
    [ $((ok + bad)) -gt 0 ] || bad=1
    echo "== $name: $ok passed, $bad failed"
    passed=$((passed + ok))
    failed=$((failed + bad))
}

# check CLIENT ARGUMENT...: runs a client's checks.
check() {
    local client=$1
    shift
    "$python" "$here/$client.check.py" "$@" >"$work/out" 2>&1 || true
    count "$client" "$work/out"
}

check pymemcache "${ports[@]}" "$stoppable"
check pylibmc "${ports[@]}"
check meta_memcache "${ports[0]}"

php "$here/php_memcached.check.php" "${ports[@]}" >"$work/out" 2>&1 || true
count php-memcached "$work/out"

# pymemcache comes with tests for a live server; those of TLS need another one.
own_tests=$("$python" -c 'import os, pymemcache.test; print(os.path.dirname(pymemcache.test.__file__))')
"$python" -m pytest -rA -q --rootdir="$own_tests" -c /dev/null -p no:cacheprovider -W ignore \
    "$own_tests/test_integration.py" --server 127.0.0.1 --port "${ports[0]}" --size 1024 >"$work/pytest" 2>&1 || true
sed -nE 's/^PASSED .*::(.*)$/ok \1/p; s/^(FAILED|ERROR) .*::(.*)$/FAILED \2/p' "$work/pytest" >"$work/out"
count "pymemcache's own tests" "$work/out"

proxy_port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
{
    echo "memkv:"
    echo "  listen: 127.0.0.1:$proxy_port"
    echo "  hash: md5"
    echo "  distribution: ketama"
    echo "  auto_eject_hosts: false"
    echo "  servers:"
    for port in "${ports[@]}"; do
        echo "   - 127.0.0.1:$port:1"
    done
} >"$work/nutcracker.yml"
stats_port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
PATH=$PATH:/usr/sbin nutcracker -c "$work/nutcracker.yml" -a 127.0.0.1 -s "$stats_port" -m 2097152 \
    -o "$work/nutcracker.log" 2>/dev/null &
running+=($!)
wait_for_port "$proxy_port" $!
check nutcracker "$proxy_port" "${ports[@]}"

exporter=$(command -v prometheus-memcached-exporter || command -v memcached_exporter || true)
if [ -n "$exporter" ]; then
    exporter_port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$exporter" --memcached.address="127.0.0.1:${ports[0]}" --web.listen-address="127.0.0.1:$exporter_port" 2>"$work/exporter.log" &
    running+=($!)
    wait_for_port "$exporter_port" $!
    check exporter "${ports[0]}" "http://127.0.0.1:$exporter_port/metrics"
else
    echo "the Prometheus exporter is not installed: what it reads is checked without it"
    check exporter "${ports[0]}"
fi

# memccapable prints one line a test: "ascii get   [pass]" or "[FAIL]".
#
# Two reports are expected. "ascii delete" and "ascii delete noreply" send `delete a b c d e` and want an error for it, as
# memcached gave until 1.6.18; since then surplus words are ignored (protocol 1.7), and a server that follows 1.6.45 must
# disagree. That the commands themselves work is shown by the other clients.
stdbuf -o0 memccapable -h 127.0.0.1 -p "${ports[0]}" -a >"$work/capable" 2>&1 || true
sed -nE 's/^(ascii [a-z ]*[a-z]) +\[pass\]$/ok \1/p
         s/^(ascii delete( noreply)?) +\[FAIL\]$/expected \1/p; t
         s/^(ascii [a-z ]*[a-z]) +\[FAIL\]$/FAILED \1/p' "$work/capable" >"$work/out"
count memccapable "$work/out"

for pid in "${servers[@]}"; do
    kill -0 "$pid" 2>/dev/null || { echo "FAILED memkv did not survive"; failed=$((failed + 1)); }
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
