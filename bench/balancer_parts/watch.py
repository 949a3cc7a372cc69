"""When an endpoint is ready, and when HAProxy's server for it is: `python watch.py ENDPOINTS [HAPROXY] UNIT`.

Prints READY when it watches, then a line of JSON: Unix times at which UNIT was ready on the endpoints socket,
and (where HAPROXY is given, its stats socket) had a server with traffic.
"""

import json
import socket
import sys
import threading
import time

STEP = 0.001  # seconds from one question to HAProxy to the next
PATIENCE = 60.0


def asked(path: str, line: str) -> str:
    """What HAProxy answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(line.encode() + b"\n")
        return connection.makefile().read()


def serves(path: str, server: str) -> bool:
    """Whether HAProxy gives a server requests: up, and in no maintenance (srv_op_state, srv_admin_state)."""
    rows = (row.split() for row in asked(path, "show servers state").splitlines())
    return any(len(row) > 6 and row[3] == server and row[5] == "2" and row[6] == "0" for row in rows)


def main() -> None:
    """Watch one change."""
    endpoints, *haproxy, unit = sys.argv[1:]
    found: dict[str, float] = {}
    deadline = time.time() + PATIENCE

    def follow() -> None:
        while "haproxy" not in found and time.time() < deadline:
            if serves(haproxy[0], unit.replace("@", ":")):
                found["haproxy"] = time.time()
            time.sleep(STEP)

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(endpoints)
        lines = connection.makefile()
        lines.readline()
        thread = threading.Thread(target=follow) if haproxy else None
        if thread:
            thread.start()
        print("READY", flush=True)
        for line in lines:
            if any(e["unit"] == unit and e["ready"] for e in json.loads(line)["endpoints"]):
                found["endpoint"] = time.time()
                break
        if thread:
            thread.join()
    print(json.dumps(found), flush=True)


main()
