"""pymemcache's public API in full against running servers: pymemcache.check.py PORT PORT PORT STOPPABLE_PORT.

Client and PooledClient work on the first server, HashClient on the first three; the last one may be stopped. The last check says
which public methods no other check has called.
"""

import inspect
import sys
import time

from pymemcache import serde
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import MemcacheClientError, MemcacheIllegalInputError, MemcacheServerError, MemcacheUnknownCommandError

from check import check, refuses, run

ADDRESSES = [("127.0.0.1", int(port)) for port in sys.argv[1:4]]
ADDRESS = ADDRESSES[0]
STOPPABLE = ("127.0.0.1", int(sys.argv[4]))

CALLED = set()


def watched(cls):
    """Notes which public methods of a class are called from outside."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if name.startswith("_"):
            continue

        def wrapper(self, *args, _name=name, _method=method, **kwargs):
            CALLED.add((cls.__name__, _name))
            return _method(self, *args, **kwargs)

        setattr(cls, name, wrapper)


for watched_class in (Client, PooledClient, HashClient):
    watched(watched_class)


def client(**options):
    return Client(ADDRESS, timeout=30, connect_timeout=30, **options)


@check
def set_and_get(c):
    assert c.set("k", "v", noreply=False) is True
    assert c.get("k") == b"v"
    assert c.get("missing") is None
    assert c.get("missing", "default") == "default"


@check
def values_keep_every_byte(c):
    value = bytes(range(256)) * 100
    c.set("k", value, noreply=False)
    assert c.get("k") == value


@check
def large_values(c):
    value = b"x" * 1_000_000
    assert c.set("k", value, noreply=False) is True
    assert c.get("k") == value


@check
def too_large_values(c):
    c.set("k", "v", noreply=False)
    refuses(MemcacheServerError, c.set, "k", b"x" * 2_000_000, noreply=False)
    assert c.get("k") is None


@check
def noreply_is_the_default(c):
    for i in range(100):
        c.set(f"k{i}", str(i))
    assert c.get("k99") == b"99"


@check
def set_many_and_get_many(c):
    values = {f"key{i}": f"value{i}".encode() for i in range(500)}
    assert c.set_many(values, noreply=False) == []
    assert c.get_many(list(values) + ["missing"]) == values
    assert c.get_multi([]) == {}


@check
def a_very_long_multi_get(c):
    values = {f"{'k' * 200}{i}": b"v" for i in range(2_000)}
    c.set_multi(values, noreply=False)
    assert c.get_many(values) == values


@check
def add_and_replace(c):
    assert c.replace("k", "0", noreply=False) is False
    assert c.add("k", "1", noreply=False) is True
    assert c.add("k", "2", noreply=False) is False
    assert c.replace("k", "3", noreply=False) is True
    assert c.get("k") == b"3"


@check
def append_and_prepend(c):
    assert c.append("k", "x", noreply=False) is False
    c.set("k", "b", noreply=False)
    assert c.append("k", "c", noreply=False) is True
    assert c.prepend("k", "a", noreply=False) is True
    assert c.get("k") == b"abc"


@check
def gets_and_cas(c):
    assert c.gets("k") == (None, None)
    assert c.cas("k", "1", b"5", noreply=False) is None
    c.set("k", "1", noreply=False)
    value, unique = c.gets("k")
    assert value == b"1"
    assert c.cas("k", "2", unique, noreply=False) is True
    assert c.cas("k", "3", unique, noreply=False) is False
    assert c.get("k") == b"2"


@check
def gets_many(c):
    c.set_many({"a": "1", "b": "2"}, noreply=False)
    found = c.gets_many(["a", "b", "c"])
    assert {key: value for key, (value, _) in found.items()} == {"a": b"1", "b": b"2"}
    assert found["a"][1] != found["b"][1]


@check
def delete_and_delete_many(c):
    assert c.delete("k", noreply=False) is False
    c.set_many({"a": "1", "b": "2", "c": "3"}, noreply=False)
    assert c.delete("a", noreply=False) is True
    assert c.delete_many(["b", "c"], noreply=False) is True
    assert c.get_many(["a", "b", "c"]) == {}


@check
def incr_and_decr(c):
    assert c.incr("k", 1) is None
    c.set("k", "10", noreply=False)
    assert c.incr("k", 5) == 15
    assert c.decr("k", 20) == 0
    c.set("k", "text", noreply=False)
    refuses(MemcacheClientError, c.incr, "k", 1)


@check
def touch(c):
    assert c.touch("k", 10, noreply=False) is False
    c.set("k", "v", noreply=False)
    assert c.touch("k", 10, noreply=False) is True
    assert c.touch("k", -1, noreply=False) is True
    assert c.get("k") is None


@check
def expiry(c):
    c.set("past", "v", expire=-1, noreply=False)
    c.set("later", "v", expire=1000, noreply=False)
    assert c.get("past") is None and c.get("later") == b"v"


@check
def flags(c):
    with_flags = client(serializer=lambda key, value: (value, 12345), deserializer=lambda key, value, flags: (value, flags))
    with_flags.set("k", "v", noreply=False)
    assert with_flags.get("k") == (b"v", 12345)


@check
def flush_all(c):
    c.set("k", "v", noreply=False)
    assert c.flush_all(noreply=False) is True
    assert c.get("k") is None


@check
def version(c):
    assert c.version().startswith(b"1.6.45")


@check
def stats(c):
    c.set("k", "v", noreply=False)
    c.get("k")
    general = c.stats()
    # Items that were flushed count until somebody meets them, here as in memcached.
    assert general[b"curr_items"] >= 1
    assert general[b"get_hits"] >= 1
    assert general[b"threads"] >= 1 and isinstance(general[b"rusage_user"], float)
    settings = c.stats("settings")
    assert settings[b"maxbytes"] == 64 << 20


@check
def illegal_keys_are_refused_by_somebody(c):
    refuses(MemcacheIllegalInputError, c.set, "with space", "v", noreply=False)
    refuses(MemcacheIllegalInputError, c.set, "k" * 251, "v", noreply=False)
    c.set("k" * 250, "v", noreply=False)
    assert c.get("k" * 250) == b"v"


@check
def raw_command(c):
    assert c.raw_command("verbosity 1") == b"OK"
    refuses(MemcacheUnknownCommandError, c.raw_command, "nonsense")


def all_of_it(c):
    """What every kind of client can do."""
    assert c.set("k", "1", noreply=False) is True
    assert c.add("k", "2", noreply=False) is False
    assert c.replace("k", "3", noreply=False) is True
    assert c.append("k", "4", noreply=False) is True
    assert c.prepend("k", "2", noreply=False) is True
    assert c.get("k") == b"234"
    assert c.incr("k", 6) == 240
    assert c.decr("k", 40) == 200
    value, unique = c.gets("k")
    assert value == b"200"
    assert c.cas("k", "new", unique, noreply=False) is True
    assert c.cas("k", "newer", unique, noreply=False) is False
    assert c.touch("k", 1000, noreply=False) is True
    assert c.set_many({f"m{i}": str(i) for i in range(60)}, noreply=False) == []
    assert c.set_multi({f"n{i}": str(i) for i in range(60)}, noreply=False) == []
    assert len(c.get_many([f"m{i}" for i in range(61)])) == 60
    assert len(c.get_multi([f"n{i}" for i in range(61)])) == 60
    found = c.gets_many(["m0", "m59", "m60"])
    assert {key: value for key, (value, _) in found.items()} == {"m0": b"0", "m59": b"59"}
    assert c.delete("k", noreply=False) is True
    assert c.delete_many([f"m{i}" for i in range(60)], noreply=False) is True
    assert c.delete_multi([f"n{i}" for i in range(60)], noreply=False) is True
    assert c.get_many(["k", "m0", "n59"]) == {}


@check
def everything_with_a_client(c):
    all_of_it(c)


@check
def everything_with_a_pooled_client(_):
    c = PooledClient(ADDRESS, max_pool_size=4, timeout=30)
    all_of_it(c)
    assert c.version().startswith(b"1.6.45")
    assert c.stats()[b"threads"] >= 1
    assert c.raw_command("verbosity 0") == b"OK"
    assert c.check_key("k") == b"k"
    assert c.flush_all(noreply=False) is True
    c.quit()
    c.disconnect_all()
    c.close()


def hash_client(**options):
    return HashClient(ADDRESSES, timeout=30, connect_timeout=30, **options)


@check
def everything_with_a_hash_client_over_three_servers(_):
    for options in ({}, {"use_pooling": True, "max_pool_size": 4}):
        c = hash_client(**options)
        c.flush_all(noreply=False)
        all_of_it(c)
        assert len(c.gets_multi(["a", "b"])) == 0
        c.disconnect_all()
        c.quit()
        c.close()


@check
def keys_are_spread_over_three_servers(_):
    c = hash_client()
    c.set_many({f"spread{i}": b"v" for i in range(300)}, noreply=False)
    shares = [len(Client(address, timeout=30).get_many([f"spread{i}" for i in range(300)])) for address in ADDRESSES]
    assert sum(shares) == 300 and min(shares) > 50, shares
    c.close()


@check
def servers_come_and_go(_):
    c = HashClient(ADDRESSES[:2], timeout=30)
    c.set_many({f"moving{i}": b"v" for i in range(300)}, noreply=False)
    c.add_server(ADDRESSES[2])
    left = len(c.get_many([f"moving{i}" for i in range(300)]))
    assert 100 < left < 300, left
    c.set_many({f"moving{i}": b"v" for i in range(300)}, noreply=False)
    assert len(c.get_many([f"moving{i}" for i in range(300)])) == 300
    c.close()


@check
def a_dead_server_is_left_out(_):
    # Nothing listens on port 1; the client takes such a server out with its own remove_server.
    c = HashClient(ADDRESSES + [("127.0.0.1", 1)], timeout=30, retry_attempts=0, ignore_exc=True)
    keys = [f"dead{i}" for i in range(200)]
    for _ in range(2):
        for key in keys:
            c.set(key, b"v", noreply=False)
    assert len(c.get_many(keys)) == 200
    c.close()


@check
def serializers(_):
    for kind in (serde.pickle_serde, serde.compressed_serde, serde.PickleSerde(pickle_version=2)):
        c = client(serde=kind)
        for value in ["text", b"bytes", 5, 2**70, {"a": [1, 2.5]}, "x" * 100_000]:
            c.set("k", value, noreply=False)
            assert c.get("k") == value, (kind, value)


@check
def prefixes_and_unicode_keys(c):
    prefixed = client(key_prefix=b"app:")
    prefixed.set("k", "v", noreply=False)
    assert prefixed.get("k") == b"v" and c.get("app:k") == b"v"
    unicode = client(allow_unicode_keys=True, encoding="utf8")
    unicode.set("schl\u00fcssel", "wert\u00fc", noreply=False)
    assert unicode.get("schl\u00fcssel") == "wert\u00fc".encode()


@check
def retrying_client(_):
    c = RetryingClient(client(), attempts=2)
    assert c.set("k", "v", noreply=False) is True
    assert c.get("k") == b"v"


@check
def check_key_and_disconnect_all(c):
    assert c.check_key("k", b"p:") == b"p:k"
    refuses(MemcacheIllegalInputError, c.check_key, "a b", b"")
    c.disconnect_all()
    assert c.get("k") is None
    c.close()
    assert c.get("k") is None


@check
def cache_memlimit(c):
    assert c.cache_memlimit(32) is True
    assert c.stats()[b"limit_maxbytes"] == 32 << 20
    assert c.cache_memlimit(64) is True


@check
def every_statistic_is_read(c):
    c.set("k", "v", noreply=False)
    assert c.stats("items")[b"items:1:number"] >= 1
    assert c.stats("slabs")[b"1:chunk_size"] == 8 and c.stats("slabs")[b"active_slabs"] == 1
    assert any(name.endswith(b":state") for name in c.stats("conns"))
    assert c.stats("sizes")[b"sizes_status"] == b"disabled"
    assert c.stats("latency")[b"latency:sample_every"] == 64
    assert b"hotkeys:samples" in c.stats("hotkeys")
    assert c.stats("cachedump", "1", "0") is not None


@check
def quit(c):
    c.quit()
    assert c.set("k", "v", noreply=False) is True


@check
def shutdown(_):
    last = Client(STOPPABLE, timeout=30)
    assert last.set("k", "v", noreply=False) is True
    last.shutdown(graceful=True)
    # It answers what it has received before it goes.
    deadline = time.monotonic() + 10
    while True:
        try:
            Client(STOPPABLE, timeout=30).get("k")
        except OSError:
            break
        assert time.monotonic() < deadline, "it does not stop"


@check
def no_public_method_was_left_out(_):
    everything = {
        (cls.__name__, name)
        for cls in (Client, PooledClient, HashClient)
        for name, _ in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_")
    }
    # It stops a server, and does what Client's does.
    left = everything - CALLED - {("PooledClient", "shutdown")}
    assert not left, left


sys.exit(run(client, lambda c: c.flush_all(noreply=False)))
