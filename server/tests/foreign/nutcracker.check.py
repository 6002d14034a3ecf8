"""nutcracker (twemproxy) in front of three servers, asked through pymemcache: nutcracker.check.py PROXY_PORT PORT PORT PORT."""

import sys

from pymemcache.client.base import Client

from check import check, refuses, run
from pymemcache.exceptions import MemcacheClientError

PROXY, *SERVERS = [("127.0.0.1", int(port)) for port in sys.argv[1:]]
KEYS = [f"key{i}" for i in range(300)]


def client():
    return Client(PROXY, timeout=30, connect_timeout=30)


def flush(_):
    """The proxy passes no flush_all on."""
    for server in SERVERS:
        Client(server, timeout=30).flush_all(noreply=False)


@check
def keys_are_spread_and_found(c):
    assert c.set_many({key: key for key in KEYS}, noreply=False) == []
    assert c.get_many(KEYS + ["missing"]) == {key: key.encode() for key in KEYS}
    shares = [len(Client(server, timeout=30).get_many(KEYS)) for server in SERVERS]
    assert sum(shares) == len(KEYS) and min(shares) > 30, shares
    assert c.delete_many(KEYS, noreply=False) is True
    assert c.get_many(KEYS) == {}


@check
def every_command_that_the_proxy_passes_on(c):
    for key in KEYS[:50]:
        assert c.replace(key, "0", noreply=False) is False
        assert c.add(key, "1", expire=100, noreply=False) is True
        assert c.add(key, "2", noreply=False) is False
        assert c.append(key, "0", noreply=False) is True
        assert c.prepend(key, "1", noreply=False) is True
        assert c.incr(key, 5) == 115 and c.decr(key, 5) == 110
        value, unique = c.gets(key)
        assert value == b"110"
        assert c.cas(key, "new", unique, noreply=False) is True
        assert c.cas(key, "newer", unique, noreply=False) is False
        assert c.touch(key, 100, noreply=False) is True
        assert c.get(key) == b"new"
        assert c.delete(key, noreply=False) is True
        assert c.delete(key, noreply=False) is False


@check
def large_values_pass(c):
    value = b"x" * 900_000
    assert c.set("large", value, noreply=False) is True
    assert c.get("large") == value


@check
def errors_pass(c):
    c.set("text", "text", noreply=False)
    refuses(MemcacheClientError, c.incr, "text", 1)
    assert c.get("text") == b"text"


@check
def expiry_passes(c):
    # The proxy takes no negative numbers; this is a date in 1970.
    c.set("past", "v", expire=2_592_001, noreply=False)
    c.set("later", "v", expire=1000, noreply=False)
    assert c.get("past") is None and c.get("later") == b"v"


sys.exit(run(client, flush))
