"""pylibmc (libmemcached) against running servers: pylibmc.check.py PORT PORT PORT. Ketama spreads keys over all three."""

import sys

import pylibmc

from check import check, refuses, run

ADDRESSES = [f"127.0.0.1:{port}" for port in sys.argv[1:4]]
ADDRESS = ADDRESSES[0]


def client(**behaviors):
    return pylibmc.Client([ADDRESS], binary=False, behaviors={"tcp_nodelay": True, "cas": True, **behaviors})


@check
def set_and_get(c):
    assert c.set("k", "v")
    assert c.get("k") == "v"
    assert c.get("missing") is None
    assert "k" in c and "missing" not in c


@check
def types_survive(c):
    for value in ["text", b"bytes", 42, 2**60, 1.5, True, [1, "two"], {"three": 3}]:
        assert c.set("k", value)
        assert c.get("k") == value, value


@check
def large_values(c):
    value = b"x" * 1_000_000
    assert c.set("k", value)
    assert c.get("k") == value


@check
def too_large_values(c):
    refuses(pylibmc.Error, c.set, "k", b"x" * 3_000_000)
    assert c.set("k", "v") and c.get("k") == "v"


@check
def compressed_values(c):
    value = b"compress me " * 10_000
    assert c.set("k", value, min_compress_len=100)
    assert c.get("k") == value


@check
def multi(c):
    values = {f"key{i}": i for i in range(1_000)}
    assert c.set_multi(values) == []
    assert c.get_multi(list(values) + ["missing"]) == values
    assert c.delete_multi(list(values)) is True
    assert c.get_multi(list(values)) == {}


@check
def add_multi_and_prefix(c):
    assert c.add_multi({"a": 1, "b": 2}, key_prefix="p:") == []
    assert c.add_multi({"a": 1, "b": 2}, key_prefix="p:") != []
    assert c.get_multi(["a", "b"], key_prefix="p:") == {"a": 1, "b": 2}


@check
def add_and_replace(c):
    assert not c.replace("k", "0")
    assert c.add("k", "1")
    assert not c.add("k", "2")
    assert c.replace("k", "3")
    assert c.get("k") == "3"


@check
def append_and_prepend(c):
    c.set("k", "b")
    assert c.append("k", "c") and c.prepend("k", "a")
    assert c.get("k") == "abc"


@check
def gets_and_cas(c):
    c.set("k", "1")
    value, unique = c.gets("k")
    assert value == "1"
    assert c.cas("k", "2", unique)
    assert not c.cas("k", "3", unique)
    assert c.get("k") == "2"


@check
def incr_and_decr(c):
    c.set("k", 10)
    assert c.incr("k") == 11 and c.incr("k", 9) == 20
    assert c.decr("k", 5) == 15 and c.get("k") == 15
    refuses(pylibmc.NotFound, c.incr, "missing")


@check
def incr_multi(c):
    c.set_multi({"a": 1, "b": 2})
    c.incr_multi(["a", "b"], delta=5)
    assert c.get_multi(["a", "b"]) == {"a": 6, "b": 7}


@check
def delete(c):
    c.set("k", "v")
    assert c.delete("k")
    assert not c.delete("k")


@check
def touch_and_expiry(c):
    c.set("k", "v", time=1000)
    assert c.touch("k", 2000)
    assert not c.touch("missing", 2000)
    assert c.get("k") == "v"


@check
def flush_all(c):
    c.set("k", "v")
    assert c.flush_all()
    assert c.get("k") is None


@check
def stats(c):
    c.set("k", "v")
    ((_, general),) = c.get_stats()
    # Items that were flushed count until somebody meets them, here as in memcached.
    assert int(general["curr_items"]) >= 1
    assert general["version"].startswith(b"1.6.45")


@check
def buffered_and_noreply(_):
    c = client(no_block=True, _noreply=True)
    for i in range(1_000):
        c.set(f"n{i}", i)
    assert c.get("n999") == 999


@check
def reconnect(c):
    c.disconnect_all()
    assert c.set("k", "v") and c.get("k") == "v"


@check
def clone_and_pool(c):
    pool = pylibmc.ThreadMappedPool(c)
    with pool.reserve() as other:
        assert other.set("k", "v")
    assert c.clone().get("k") == "v"


def over_three(addresses=None, **behaviors):
    c = pylibmc.Client(addresses or ADDRESSES, behaviors={"tcp_nodelay": True, "cas": True, **behaviors})
    return c


def shares(keys):
    """How many of the keys each server has."""
    return [len(pylibmc.Client([address]).get_multi(keys)) for address in ADDRESSES]


@check
def ketama_spreads_and_finds_keys(_):
    keys = [f"ketama{i}" for i in range(600)]
    for behaviors in (
        {"ketama": True},
        {"ketama_weighted": True},
        {"distribution": "consistent ketama", "hash": "md5"},
        {"distribution": "consistent", "hash": "murmur"},
    ):
        c = over_three(**behaviors)
        c.flush_all()
        assert c.set_multi({key: key for key in keys}) == []
        assert c.get_multi(keys) == {key: key for key in keys}
        spread = shares(keys)
        assert sum(spread) == 600 and min(spread) > 60, (behaviors, spread)
        assert c.incr_multi is not None and c.delete_multi(keys)
        assert c.get_multi(keys) == {}


@check
def ketama_keeps_most_keys_when_a_server_goes(_):
    keys = [f"going{i}" for i in range(600)]
    c = over_three(ketama=True)
    c.set_multi({key: key for key in keys})
    fewer = over_three(ADDRESSES[:2], ketama=True)
    left = len(fewer.get_multi(keys))
    assert 250 < left < 600, left


@check
def ketama_with_every_command(_):
    c = over_three(ketama=True)
    c.flush_all()
    for i in range(60):
        key = f"each{i}"
        assert c.add(key, "1") and not c.add(key, "2") and c.replace(key, "3")
        assert c.append(key, "4") and c.prepend(key, "2") and c.get(key) == "234"
        value, unique = c.gets(key)
        assert c.cas(key, "5", unique) and c.touch(key, 100) and c.delete(key)
        assert c.set(key, 5) and c.incr(key, 2) == 7 and c.decr(key, 1) == 6
    assert len(c.get_stats()) == 3


sys.exit(run(client, lambda c: c.flush_all()))
