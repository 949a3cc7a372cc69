"""A benchmark's figures as JSON: with the machine, the date and the versions they were measured with."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path


def write(path: Path, rows: Sequence[Mapping[str, object]], **versions: str) -> None:
    """Write rows (what, subject, value, unit, ratio_to, ratio); `versions` are those besides Python's."""
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions},
        "rows": rows,
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
