"""`make docs-versions`: the site of each release, by its tag, and of the commit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


def test_each_release_has_its_pages_and_the_newest_is_shown(tmp_path: Path):
    pytest.importorskip("mkdocs", reason="make docs installs it")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]

    def git(*words: str) -> None:
        subprocess.run(["git", *identity, *words], cwd=clone, check=True, capture_output=True)

    git("tag", "v0.9.0")
    (clone / "docs/faq.md").write_text("# Questions\n\nOf the release 0.9.1.\n")
    git("commit", "--quiet", "--all", "--message", "Answer")
    git("tag", "v0.9.1")
    (clone / "docs/faq.md").write_text("# Questions\n\nOf what comes.\n")
    git("commit", "--quiet", "--all", "--message", "Answer more")
    git("tag", "v1.0.0rc1")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        [sys.executable, "scripts/versions"], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    site = clone / "build/versions"
    assert [
        (each["version"], each["aliases"]) for each in json.loads((site / "versions.json").read_text())
    ] == [
        ("0.9", ["latest"]),
        ("dev", []),
    ]
    assert "0.9/" in (site / "index.html").read_text()
    assert "Of the release 0.9.1." in (site / "0.9/docs/faq.html").read_text()
    assert "Of what comes." in (site / "dev/docs/faq.html").read_text()
    assert '"provider": "mike"' in (site / "dev/docs/faq.html").read_text()
