#!/usr/bin/env python3
"""A stand-in for the command termux-location, as its documentation has it. Nobody has a phone here.

It reads `script` beside it, JSON: "PROVIDER REQUEST" or "*" -> {"out", "err", "status", "hang"}; and writes
its arguments, and the pid of what it starts when it hangs, to `log`.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", choices=("gps", "network", "passive"), default="gps")
    parser.add_argument("-r", choices=("once", "last", "updates"), default="once")
    given = parser.parse_args()
    script = json.loads((FOLDER / "script").read_text())
    does = script.get(f"{given.p} {given.r}", script.get("*", {}))
    with (FOLDER / "log").open("a") as log:
        print(given.p, given.r, file=log)
        if does.get("hang"):
            # As the real one, which is a shell script that starts termux-api.
            child = subprocess.Popen(["sleep", "600"])
            print("child", child.pid, file=log, flush=True)
            time.sleep(600)
    sys.stdout.write(does.get("out", ""))
    sys.stderr.write(does.get("err", ""))
    return int(does.get("status", 0))


if __name__ == "__main__":
    sys.exit(main())
