"""Known holes in what an installation of all distributions consists of, by pip-audit."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

# What pip-audit says where its database does not answer.
AWAY = re.compile(
    r"(?i)connect|max retries|name resolution|timed? ?out|HTTP ?Error|[45]\d\d (Client|Server) Error"
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


def test_no_hole_is_known(tmp_path: Path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    subprocess.run([tmp_path / "bin/pip", "install", "--quiet", "pip-audit>=2.7"], check=True)
    installed = Path(sys.prefix) / f"lib/python3.{sys.version_info.minor}/site-packages"
    command = [
        tmp_path / "bin/pip-audit",
        "--path",
        installed,
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.strip() and AWAY.search(done.stderr):
        pytest.skip(f"pip-audit's database cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    found = {
        f"{each['name']} {each['version']}": [hole["id"] for hole in each["vulns"]]
        for each in json.loads(done.stdout)["dependencies"]
        if each.get("vulns")
    }
    assert not found, done.stderr
