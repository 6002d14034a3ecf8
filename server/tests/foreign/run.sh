#!/usr/bin/env bash
# Runs clients that others wrote against a memkv binary: pymemcache, pylibmc, meta-memcache, and libmemcached's
# memccapable.
#
#   server/tests/foreign/run.sh target/release/memkv
#
# Installs what it needs on a bare Debian machine when run as root. The last line is "N passed, N failed"; the exit code is
# not 0 if anything failed.
set -euo pipefail

binary=$(realpath "${1:?usage: run.sh BINARY}")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

apt_install() {
    [ "$(id -u)" = 0 ] || { echo "missing: $*; run as root to have it installed" >&2; exit 1; }
    apt-get -qq update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

command -v memccapable >/dev/null || apt_install libmemcached-tools
command -v python3 >/dev/null || apt_install python3
# Debian ships venv apart from python3.
python3 -m venv "$work/venv" >/dev/null 2>&1 || { apt_install python3-venv; python3 -m venv --clear "$work/venv"; }
# pylibmc brings its own libmemcached in its wheel.
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'pymemcache==4.0.0' 'pylibmc==1.6.3' \
    'meta-memcache==4.3.0'

: >"$work/log"
"$binary" -p -1 -l 127.0.0.1 -u root 2>"$work/log" &
server=$!
for _ in $(seq 100); do
    grep -q ' ready on ' "$work/log" && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
port=$(sed -n 's/.* ready on 127\.0\.0\.1:\([0-9]*\) .*/\1/p' "$work/log")
[ -n "$port" ] || { echo "memkv did not say where it listens" >&2; cat "$work/log" >&2; exit 1; }

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

for client in pymemcache pylibmc meta_memcache; do
    "$work/venv/bin/python" "$here/$client.check.py" "$port" >"$work/out" 2>&1 || true
    count "$client" "$work/out"
done

# memccapable prints one line a test: "ascii get   [pass]" or "[FAIL]".
#
# Two reports are expected. "ascii delete" and "ascii delete noreply" send `delete a b c d e` and want an error for it, as
# memcached gave until 1.6.18; since then surplus words are ignored (protocol 1.7), and a server that follows 1.6.45 must
# disagree. That the commands themselves work is shown by the other two clients.
stdbuf -o0 memccapable -h 127.0.0.1 -p "$port" -a >"$work/capable" 2>&1 || true
sed -nE 's/^(ascii [a-z ]*[a-z]) +\[pass\]$/ok \1/p
         s/^(ascii delete( noreply)?) +\[FAIL\]$/expected \1/p; t
         s/^(ascii [a-z ]*[a-z]) +\[FAIL\]$/FAILED \1/p' "$work/capable" >"$work/out"
count memccapable "$work/out"

kill -0 "$server" 2>/dev/null || { echo "FAILED memkv did not survive"; failed=$((failed + 1)); }
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
