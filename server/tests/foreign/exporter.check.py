"""What the Prometheus exporter for memcached reads, against a running server: exporter.check.py PORT [EXPORTER_URL].

The exporter is in no registry that packages come from. Where its program is installed, run.sh starts it, and its own answer is
checked: memcached_up must be 1, and every series that it makes of what the server shows must be there. In any case every
statistic that it reads must be there, under the name and in the form that it wants.
"""

import sys
import urllib.request

from pymemcache.client.base import Client

from check import check, run

PORT = int(sys.argv[1])
URL = sys.argv[2] if len(sys.argv) > 2 else None

GENERAL = """uptime time cas_badval cmd_flush cmd_set bytes limit_maxbytes curr_items total_items bytes_read bytes_written
    curr_connections total_connections rejected_connections conn_yields listen_disabled_num evictions reclaimed store_too_large
    store_no_memory lru_crawler_starts direct_reclaims crawler_items_checked crawler_reclaimed moves_to_cold moves_to_warm
    moves_within_lru accepting_conns rusage_user rusage_system""".split()
PAIRS = [f"{command}_{end}" for command in "get delete incr decr cas touch".split() for end in ("hits", "misses")]
ITEMS = """number age hits_to_hot hits_to_warm hits_to_cold hits_to_temp crawler_reclaimed evicted evicted_nonzero evicted_time
    evicted_unfetched expired_unfetched outofmemory reclaimed tailrepairs mem_requested moves_to_cold moves_to_warm
    moves_within_lru number_hot number_warm number_cold age_hot age_warm""".split()
SLABS = """chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks free_chunks_end cmd_set cas_badval get_hits
    delete_hits incr_hits decr_hits cas_hits touch_hits""".split()
SETTINGS = "maxconns lru_crawler_sleep lru_crawler_tocrawl hot_lru_pct warm_lru_pct hot_max_factor warm_max_factor".split()


def client():
    return Client(("127.0.0.1", PORT), timeout=30)


def lines(c, *topic):
    """A statistics answer as it is on the wire: the exporter is stricter than pymemcache."""
    connection = c.sock or (c.version() and c.sock)
    connection.sendall(" ".join(("stats",) + topic).encode() + b"\r\n")
    answer = b""
    while not answer.endswith(b"END\r\n"):
        answer += connection.recv(65536)
    found = {}
    for line in answer.decode().split("\r\n")[:-2]:
        word, name, value = line.split(" ", 2)
        assert word == "STAT" and name not in found, line
        found[name] = value
    return found


def numbers(found, names, prefix=""):
    missing = [name for name in names if prefix + name not in found]
    assert not missing, missing
    for name in names:
        float(found[prefix + name])


@check
def general_statistics(c):
    c.set("k", "1", noreply=False)
    found = lines(c)
    numbers(found, GENERAL + PAIRS)
    assert found["version"]


@check
def items_of_the_one_class(c):
    c.set("k", "1", noreply=False)
    numbers(lines(c, "items"), ITEMS, "items:1:")


@check
def slabs_of_the_one_class(c):
    c.set("k", "1", noreply=False)
    found = lines(c, "slabs")
    numbers(found, SLABS, "1:")
    numbers(found, ["active_slabs", "total_malloced"])


@check
def settings(c):
    found = lines(c, "settings")
    numbers(found, SETTINGS)
    assert found["lru_crawler"] == "yes" and found["lru_maintainer_thread"] in ("yes", "no")


if URL:

    @check
    def the_exporter_itself(c):
        c.set("k", "1", noreply=False)
        text = urllib.request.urlopen(URL, timeout=30).read().decode()
        assert "memcached_up 1" in text, text
        for series in """memcached_uptime_seconds memcached_version memcached_current_bytes memcached_limit_bytes
            memcached_commands_total memcached_items_total memcached_max_connections memcached_lru_crawler_enabled
            memcached_malloced_bytes memcached_slab_current_items memcached_slab_chunk_size_bytes""".split():
            assert f"\n{series}" in text, series


sys.exit(run(client, lambda c: c.flush_all(noreply=False)))
