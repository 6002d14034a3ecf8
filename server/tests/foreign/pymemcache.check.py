"""pymemcache's public classic API against a running server: pymemcache.check.py PORT."""

import sys

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import MemcacheClientError, MemcacheIllegalInputError, MemcacheServerError, MemcacheUnknownCommandError

from check import check, refuses, run

ADDRESS = ("127.0.0.1", int(sys.argv[1]))


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


@check
def pooled_client(_):
    c = PooledClient(ADDRESS, max_pool_size=4, timeout=30)
    c.set("k", "v", noreply=False)
    assert c.get("k") == b"v"
    c.close()


@check
def hash_client(_):
    c = HashClient([ADDRESS], timeout=30, use_pooling=True)
    c.set_many({f"k{i}": str(i) for i in range(50)}, noreply=False)
    assert len(c.get_many([f"k{i}" for i in range(50)])) == 50
    c.close()


@check
def quit(c):
    c.quit()
    assert c.set("k", "v", noreply=False) is True


sys.exit(run(client, lambda c: c.flush_all(noreply=False)))
