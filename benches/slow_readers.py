#!/usr/bin/env python3
"""What a server's memory comes to when many clients ask for large values and hardly read.

    benches/slow_readers.py --clients 1000 --seconds 120 --value-bytes 500000 --replace -- target/release/memkv -m 256 -p 22900

Starts the server that is named behind `--`, fills it with values, lets the clients ask for all of them in one get (again and again, as
long as the system takes the request), and reads 1 KB a second from each. With --replace, all values are stored anew again and again
meanwhile, so that what slow clients hold is no longer what the cache holds. Prints the resident memory (of /proc/PID/statm) at its highest, what became
of the clients, how the sets fared, and how long single gets of another client took. Needs nothing but Python's standard library.
"""

import argparse
import collections
import os
import selectors
import socket
import subprocess
import sys
import time

PAGE = os.sysconf("SC_PAGESIZE")


def resident_mb(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * PAGE / 1e6


def connect(port, patience=5.0, small=False):
    deadline = time.monotonic() + patience
    while True:
        client = socket.socket()
        if small:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        try:
            client.connect(("127.0.0.1", port))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(30)
            return client
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def line(stream):
    return stream.readline().decode(errors="replace").strip() or "closed"


def store(stream, key, value):
    stream.write(b"set %s 0 0 %d\r\n" % (key, len(value)))
    stream.write(value)
    stream.write(b"\r\n")
    stream.flush()
    return line(stream)


def stats(port, names):
    with connect(port).makefile("rwb") as stream:
        stream.write(b"stats\r\nquit\r\n")
        stream.flush()
        lines = [text.split() for text in stream.read().decode().splitlines()]
    values = {words[1]: words[2] for words in lines if len(words) == 3}
    return {name: values[name] for name in names if name in values}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--value-bytes", type=int, default=10_000)
    parser.add_argument("--values", type=int, help="how many [default: as many as are half of 256 MiB]")
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("server", nargs=argparse.REMAINDER, help="-- and the command, with -p PORT")
    args = parser.parse_args()
    command = [word for word in args.server if word != "--"]
    port = int(command[command.index("-p") + 1])
    count = args.values or max(1, (128 << 20) // args.value_bytes)
    server = subprocess.Popen(command)
    try:
        measure(args, server.pid, port, count)
    finally:
        server.terminate()
        server.wait(10)


def measure(args, pid, port, count):
    hand = connect(port).makefile("rwb")
    body = os.urandom(1 << 16)
    value = (body * (args.value_bytes // len(body) + 1))[: args.value_bytes]
    keys = [b"key%d" % n for n in range(count)]
    outcomes = collections.Counter(store(hand, key, value) for key in keys)
    print(f"{count} values of {args.value_bytes} bytes: {dict(outcomes)}")
    before = highest = resident_mb(pid)
    print(f"resident before: {before:.1f} MB")

    clients = []
    for number in range(args.clients):
        client = connect(port, small=True)
        shift = number % len(keys[:1000])
        words = keys[:1000][shift:] + keys[:1000][:shift]
        request = b"get " + b" ".join(words) + b"\r\n"
        client.setblocking(False)
        try:
            while client.send(request) == len(request):
                pass
        except OSError:
            pass
        clients.append(client)
        if number % 50 == 0:
            highest = max(highest, resident_mb(pid))
    asked = len(clients)

    start = time.monotonic()
    sets = collections.Counter()
    gets, read, replaced, tick, told = [], 0, 0, 0, 0
    while time.monotonic() - start < args.seconds:
        # Each client has its turn once a second, a tenth of them at each tick.
        for client in clients[tick % 10 :: 10]:
            if client.fileno() < 0:
                continue
            try:
                data = client.recv(1000)
                told += b"SERVER_ERROR" in data
                read += len(data)
                if not data:
                    client.close()
            except BlockingIOError:
                pass
            except OSError:
                client.close()
        tick += 1
        if args.replace:
            sets[store(hand, keys[replaced % count], value)] += 1
            replaced += 1
        due = start + tick * 0.1
        while time.monotonic() < due or tick % 10 == 0:
            began = time.monotonic()
            hand.write(b"get nothing\r\n")
            hand.flush()
            assert line(hand) == "END"
            gets.append(time.monotonic() - began)
            if args.replace:
                sets[store(hand, keys[replaced % count], value)] += 1
                replaced += 1
            else:
                time.sleep(0.01)
            if time.monotonic() >= due:
                break
        highest = max(highest, resident_mb(pid))

    gets.sort()
    closed = sum(client.fileno() < 0 for client in clients)
    print(f"{asked} clients, {args.seconds:.0f} s: {read / 1e6:.1f} MB read, {closed} closed, {told} saw an error line")
    print(f"resident at most: {highest:.1f} MB")
    if args.replace:
        print(f"sets meanwhile: {dict(sets)}")
    print(f"other gets: {len(gets)}, median {gets[len(gets) // 2] * 1e3:.2f} ms, 99 % {gets[len(gets) * 99 // 100] * 1e3:.2f} ms")
    names = ["response_obj_oom", "response_obj_bytes", "read_buf_oom", "evictions", "curr_items", "store_no_memory", "memkv_bytes_large"]
    print(f"stats: {stats(port, names)}")
    for client in clients:
        client.close()


if __name__ == "__main__":
    sys.exit(main())
