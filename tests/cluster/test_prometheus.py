"""A real Prometheus that reads a machine over mutual TLS, with the rules of docs/monitoring."""

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from tests.cli.application import wait_for
from tests.cluster.etcd_server import needs_etcd
from tests.cluster.members import Members, members
from tests.port import free_port

needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus")
pytestmark = [pytest.mark.services, pytest.mark.slow, needs_etcd, needs_prometheus]

DOCS = Path(__file__).parents[2] / "docs"
SLEEPER = "[Service]\nExecStart=sleep 1000\n"


class Prometheus:
    """A running Prometheus, with the scrape configuration of docs/monitoring.md."""

    def __init__(self, folder: Path, made: Members) -> None:
        page = (DOCS / "monitoring.md").read_text()
        [configuration] = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.S) if "scrape" in text]
        value = yaml.safe_load(configuration)
        value["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        value["rule_files"] = [str(DOCS / "monitoring/rules.yml")]
        [job] = value["scrape_configs"]
        job["file_sd_configs"] = [{"files": [str(folder / "kirsch.json")]}]
        files = made.authority.certificates("prometheus")
        job["tls_config"] = {
            "ca_file": str(files.authority),
            "cert_file": str(files.certificate),
            "key_file": str(files.key),
        }
        targets = [machine.endpoint.removeprefix("https://") for machine in made.machines]
        (folder / "kirsch.json").write_text(json.dumps([{"targets": targets, "labels": {"cluster": "test"}}]))
        self.config = folder / "prometheus.yml"
        self.config.write_text(yaml.safe_dump(value))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self.config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ]
        )

    def ask(self, path: str) -> Any:
        """The data of an answer; None while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/{path}", timeout=20) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def query(self, expression: str) -> dict[str, float]:
        """The value of each series, by its unit or its name."""
        data = self.ask(f"query?query={quote(expression)}") or {"result": []}
        return {
            each["metric"].get("unit", each["metric"].get("__name__", "")): float(each["value"][1])
            for each in data["result"]
        }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with members(tmp_path_factory.mktemp("scraped"), 1) as made:
        made.ok("submit", made.unit("sleeper.service", SLEEPER))
        made.ok("start", "sleeper")
        yield made


@pytest.fixture(scope="module")
def prometheus(cluster: Members) -> Iterator[Prometheus]:
    folder = cluster.folder / "prometheus"
    folder.mkdir()
    running = Prometheus(folder, cluster)
    yield running
    running.process.terminate()
    running.process.wait(30)


def test_the_configuration_and_the_rules_are_valid(prometheus: Prometheus):
    checked = subprocess.run(
        ["promtool", "check", "config", str(prometheus.config)], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout


def test_a_machine_is_scraped_over_mutual_tls(prometheus: Prometheus):
    wait_for(lambda: prometheus.query("up") == {"up": 1.0}, "Prometheus has read the machine")
    assert prometheus.query("kirsch_store_quorum") == {"kirsch_store_quorum": 1.0}
    [target] = prometheus.ask("targets")["activeTargets"]
    assert target["scrapeUrl"].startswith("https://")
    assert target["lastError"] == ""
    # The first sample of a unit is taken within five seconds of its start.
    wait_for(lambda: prometheus.query("kirsch_unit_memory_bytes").get("sleeper.service", 0) > 0, "figures")


def test_alerts_are_evaluated_and_none_fires(prometheus: Prometheus):
    def evaluated() -> bool:
        groups = (prometheus.ask("rules") or {"groups": []})["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert all(rule["health"] in ("ok", "unknown") for rule in rules), rules
        assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []
        return len(rules) > 10 and all(rule["health"] == "ok" for rule in rules)

    wait_for(evaluated, "every rule was evaluated")


def test_strangers_are_not_answered(cluster: Members):
    [machine] = cluster.machines
    curl = [
        "curl",
        "--silent",
        "--cacert",
        str(machine.certificates.authority),
        f"{machine.endpoint}/metrics",
    ]
    assert subprocess.run(curl, capture_output=True, timeout=30).returncode != 0
