"""Programs for test_http_crowd: slow clients of four kinds, and a quick one that asks two servers in turns.

`python -m tests.bus.crowd slow HOST PORT COUNT`, until its standard input ends, and
`... quick SECONDS ROUNDS HOST PORT HOST PORT`, until either has passed. Both
print what became of them as JSON.
"""

import http.client
import json
import select
import socket
import sys
import time
from collections import Counter

KINDS = {
    "silent": (b"", b""),
    "head": (b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"a"),
    "body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"a"),
    "reader": (b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", b""),
}


class Slow:
    """One that sends a byte or reads a kilobyte at each turn, and comes back when it is sent away."""

    def __init__(self, kind, address, statuses):
        self.kind, self.address, self.statuses = kind, address, statuses
        self.sock = None

    def turn(self):
        beginning, more = KINDS[self.kind]
        try:
            if self.sock is None:
                self.sock = socket.create_connection(self.address, timeout=20)
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                self.sock.sendall(beginning)
                self.sock.setblocking(False)
                self.read = 0
                return
            if more:
                self.sock.send(more)
            piece = self.sock.recv(1024)
            if piece and self.read == 0:
                self.statuses[f"{self.kind} {piece[9:12].decode()}"] += 1
            self.read += len(piece)
            if not piece:
                self.leave()
        except BlockingIOError:
            pass
        except OSError:
            self.leave()

    def leave(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def slow(host, port, count):
    statuses = Counter()
    kinds = list(KINDS)
    clients = [Slow(kinds[n % len(kinds)], (host, int(port)), statuses) for n in range(int(count))]
    # All have begun once those that read have their answers' beginning.
    while sum(statuses.values()) < len(clients) // len(kinds):
        for client in clients:
            client.turn()
    print("ready", flush=True)
    while True:
        for number, client in enumerate(clients):
            # A hundredth of a second for each twenty: all have their turn within one second or so.
            if number % 20 == 0 and select.select([sys.stdin], [], [], 0.01)[0]:
                print(json.dumps({**statuses, "open": sum(each.sock is not None for each in clients)}))
                return
            client.turn()


def quick(seconds, rounds, *places):
    addresses = [(host, int(port)) for host, port in zip(places[::2], places[1::2], strict=True)]
    connections = [http.client.HTTPConnection(*address, timeout=60) for address in addresses]
    times, statuses = [[] for _ in addresses], Counter()
    until, left = time.monotonic() + float(seconds), int(rounds)
    while time.monotonic() < until and (left := left - 1) >= 0:
        for connection, taken in zip(connections, times, strict=True):
            began = time.perf_counter()
            connection.request("GET", "/")
            with connection.getresponse() as answer:
                answer.read()
            taken.append(time.perf_counter() - began)
            statuses[str(answer.status)] += 1
        time.sleep(0.001)
    ninety_nine = [sorted(taken)[len(taken) * 99 // 100] for taken in times]
    print(json.dumps({"p99": ninety_nine, "statuses": statuses}))


if __name__ == "__main__":
    {"slow": slow, "quick": quick}[sys.argv[1]](*sys.argv[2:])
