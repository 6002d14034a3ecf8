"""meta-memcache (which speaks nothing but the meta commands) against a running server: meta_memcache.check.py PORT."""

import os
import socket
import sys
import threading

from meta_memcache import CacheClient, Key, ServerAddress, SetMode, connection_pool_factory_builder
from meta_memcache.configuration import LeasePolicy, RecachePolicy, StalePolicy
from meta_memcache.errors import MemcacheError
from meta_memcache.protocol import Conflict, Miss, NotStored, RequestFlags, Success, Value

from check import check, refuses, run

PORT = int(sys.argv[1])
NO_LEASE = LeasePolicy(ttl=30, miss_retries=1)


def client(_=None):
    return CacheClient.cache_client_from_servers(
        servers=[ServerAddress(host="127.0.0.1", port=PORT)],
        connection_pool_factory_fn=connection_pool_factory_builder(recv_timeout=30, connection_timeout=30),
    )


def flush(_):
    """The client has no flush: the meta dialect has none."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=30) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(100) == b"OK\r\n"


@check
def set_and_get(c):
    assert c.get("k") is None
    assert c.set("k", "value", ttl=100) is True
    assert c.get("k") == "value"


@check
def types_survive(c):
    # An empty text is missing: the client gives b"" back for it, from any server.
    for value in ["text", b"bytes", 42, 2**60, 1.5, True, None, [1, "two"], {"three": 3}, b"", b"\r\nEN\r\n"]:
        assert c.set("k", value, ttl=100)
        assert c.get("k") == value, value


@check
def large_values(c):
    value = bytes(range(256)) * 3_900
    assert c.set("k", value, ttl=100)
    assert c.get("k") == value


@check
def too_large_values(c):
    assert c.set("k", "old", ttl=100)
    refuses(MemcacheError, c.set, "k", os.urandom(3_000_000), ttl=100)
    assert c.get("k") is None
    assert c.set("k", "new", ttl=100) and c.get("k") == "new"


@check
def unicode_binary_and_long_keys(c):
    for key in ["beer 🍺", "ñandú", "with space", "line\r\nbreak", "k" * 400]:
        assert c.set(Key(key), key, ttl=100), key
        assert c.get(Key(key)) == key, key
        assert c.touch(Key(key), ttl=50), key
        assert c.delete(Key(key)), key
        assert c.get(Key(key)) is None, key


@check
def set_modes(c):
    assert not c.set("k", b"1", ttl=100, set_mode=SetMode.REPLACE)
    assert not c.set("k", b"1", ttl=100, set_mode=SetMode.APPEND)
    assert c.set("k", b"2", ttl=100, set_mode=SetMode.ADD)
    assert not c.set("k", b"9", ttl=100, set_mode=SetMode.ADD)
    assert c.set("k", b"3", ttl=100, set_mode=SetMode.APPEND)
    assert c.set("k", b"1", ttl=100, set_mode=SetMode.PREPEND)
    assert c.get("k") == b"123"
    assert c.set("k", b"4", ttl=100, set_mode=SetMode.REPLACE)
    assert c.get("k") == b"4"


@check
def refill_adds_only(c):
    assert c.refill("k", "first", ttl=100)
    assert not c.refill("k", "second", ttl=100)
    assert c.get("k") == "first"


@check
def cas(c):
    assert c.get_cas("k") == (None, None)
    token = c.set_cas("k", "1", ttl=100)
    assert token and c.get_cas("k") == ("1", token)
    newer = c.set_cas("k", "2", ttl=100, cas_token=token)
    assert newer > token
    assert not c.set("k", "3", ttl=100, cas_token=token)
    assert not c.delete("k", cas_token=token)
    assert c.get_cas("k") == ("2", newer)
    assert c.delete("k", cas_token=newer)
    assert not c.set("k", "3", ttl=100, cas_token=newer)


@check
def multi_get(c):
    values = {f"key{i}": f"value {i}" for i in range(1_000)}
    for key, value in values.items():
        c.set(key, value, ttl=100, no_reply=True)
    found = c.multi_get([*values, "missing"])
    assert {key.key: value for key, value in found.items()} == {**values, "missing": None}
    tokens = c.multi_get_cas(list(values)[:5])
    assert len({token for _, token in tokens.values()}) == 5


@check
def no_reply_stays_in_step(c):
    for i in range(500):
        assert c.set(f"k{i}", i, ttl=100, no_reply=True)
        assert c.delete(f"k{i - 1}", no_reply=True) or i == 0
        c.delta("missing", 1, no_reply=True)
        c.touch("missing", ttl=1, no_reply=True)
    assert c.get("k499") == 499 and c.get("k498") is None


@check
def delete_and_invalidate(c):
    assert c.delete("k") is False
    assert c.invalidate("k") is True
    c.set("k", "v", ttl=100)
    assert c.delete("k") is True
    assert c.get("k") is None


@check
def touch_and_expiry(c):
    assert c.touch("k", ttl=100) is False
    c.set("k", "v", ttl=1000)
    assert c.touch("k", ttl=500) is True
    assert c.meta_get(Key("k"), RequestFlags(return_ttl=True)).flags.ttl == 500
    assert c.get("k", touch_ttl=700) == "v"
    assert c.meta_get(Key("k"), RequestFlags(return_ttl=True)).flags.ttl == 700
    # A date in 1970: the client takes no negative time.
    assert c.touch("k", ttl=2_592_001) is True
    assert c.get("k") is None


@check
def arithmetic(c):
    assert c.delta("n", 5) is False
    assert c.delta_and_get("n", 5) is None
    assert c.delta_initialize("n", delta=1, initial_value=10, initial_ttl=100) is True
    assert c.delta_and_get("n", 5) == 15
    assert c.delta_and_get("n", -20) == 0
    assert c.delta_initialize_and_get("n", delta=7, initial_value=10, initial_ttl=100) == 7
    assert c.delta_and_get("n", 1, refresh_ttl=50) == 8
    response = c.meta_get(Key("n"), RequestFlags(return_ttl=True, return_cas_token=True))
    assert response.flags.ttl == 50
    assert c.delta("n", 1, cas_token=response.flags.cas_token)
    assert not c.delta("n", 1, cas_token=response.flags.cas_token)


@check
def lease_gives_one_miss(c):
    assert c.get_or_lease("k", lease_policy=NO_LEASE) is None
    flags = RequestFlags(return_value=True, vivify_on_miss_ttl=30)
    answer = c.meta_get(Key("k"), flags)
    assert isinstance(answer, Value) and answer.flags.win is False, answer
    assert c.set("k", "leased", ttl=100)
    assert c.get_or_lease("k", lease_policy=NO_LEASE) == "leased"


@check
def lease_is_won_by_one_of_many(_):
    clients = [client() for _ in range(8)]
    barrier = threading.Barrier(len(clients))
    winners = []

    def race(c):
        flags = RequestFlags(return_value=True, vivify_on_miss_ttl=30)
        for i in range(200):
            barrier.wait()
            if c.meta_get(Key(f"lease{i}"), flags).flags.win is True:
                winners.append(i)

    threads = [threading.Thread(target=race, args=(c,)) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(winners) == list(range(200))


@check
def recache_has_one_winner(c):
    c.set("k", "v", ttl=20)
    policy = RecachePolicy(ttl=30)
    assert c.get("k", recache_policy=policy) is None, "the winner sees a miss"
    assert c.get("k", recache_policy=policy) == "v", "the others the old value"
    c.set("k", "w", ttl=100)
    assert c.get("k", recache_policy=policy) == "w"


@check
def stale_deletion_has_one_winner(c):
    policy = StalePolicy(mark_stale_on_deletion_ttl=30)
    c.set("k", "v", ttl=1000)
    assert c.delete("k", stale_policy=policy)
    assert c.get("k") is None, "the winner sees a miss"
    assert c.get("k") == "v"
    assert c.meta_get(Key("k"), RequestFlags(return_ttl=True)).flags.ttl == 30
    assert c.set("k", "w", ttl=100)
    assert c.get("k") == "w"


@check
def stale_set_of_a_loser(c):
    token = c.set_cas("k", "1", ttl=100)
    c.set("k", "2", ttl=100)
    policy = StalePolicy(mark_stale_on_cas_mismatch=True)
    assert c.set("k", "late", ttl=100, cas_token=token, stale_policy=policy)
    assert c.get("k") is None, "it wants to be fetched anew"
    assert c.get("k") == "late"


@check
def meta_commands_answer_what_they_say(c):
    key = Key("k")
    assert isinstance(c.meta_get(key, RequestFlags()), Miss)
    assert isinstance(c.meta_delete(key, RequestFlags()), Miss)
    assert isinstance(c.meta_arithmetic(key, RequestFlags()), Miss)
    assert isinstance(c.meta_set(key, b"1", RequestFlags(cas_token=5)), Miss)
    assert isinstance(c.meta_set(key, b"1", RequestFlags()), Success)
    assert isinstance(c.meta_set(key, b"1", RequestFlags(cas_token=5)), Conflict)
    assert isinstance(c.meta_delete(key, RequestFlags(cas_token=5)), Conflict)
    assert isinstance(c.meta_set(key, b"1", RequestFlags(mode=SetMode.ADD.value)), NotStored)
    answer = c.meta_get(
        key,
        RequestFlags(
            return_value=True,
            return_ttl=True,
            return_size=True,
            return_client_flag=True,
            return_last_access=True,
            return_fetched=True,
            return_cas_token=True,
            opaque=b"abc",
        ),
    )
    flags = answer.flags
    assert (answer.value, flags.ttl, flags.size, flags.fetched, list(flags.opaque)) == (b"1", -1, 1, False, list(b"abc"))
    assert flags.last_access in (0, 1) and flags.cas_token > 0


sys.exit(run(client, flush))
