"""Compose files of shapes that people use, imported and run by podman. Their programs are this computer's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.containers import Folder, application_folder, needs_podman, page_or_none
from tests.deadline import eventually
from tests.port import free_port

pytestmark = [needs_podman, pytest.mark.xdist_group("images"), pytest.mark.timeout(180)]

# BASE and PORT come from .env, where the test writes them.
PAGE_AND_STORE = """
services:
  web:
    build: web
    ports: ["${PORT}:5000"]
    stop_signal: SIGKILL
    depends_on: [store]
    environment: {STORE: "http://store:2379"}
    volumes: ["/usr:/usr:ro"]
  store:
    image: ${BASE}
    command: etcd --data-dir /tmp/data --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://store:2379
    expose: ["2379"]
    tmpfs: /tmp
    volumes: ["/usr:/usr:ro"]
    healthcheck: {test: [CMD, etcdctl, endpoint, health], interval: 1s}
"""
COUNTER = """
import base64, http.server, json, os, urllib.request

def ask(verb, **said):
    said = {key: base64.b64encode(text.encode()).decode() for key, text in said.items()}
    url = f"{os.environ['STORE']}/v3/kv/{verb}"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(said).encode())) as answer:
        return json.load(answer)

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ask("put", key="visits", value="x")
        visits = ask("range", key="visits")["kvs"][0]["version"]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"WORDS {visits}".encode())

http.server.ThreadingHTTPServer(("", 5000), Page).serve_forever()
"""

DATABASE = """
name: shop
services:
  app:
    image: ${BASE}
    command:
      - sh
      - -c
      - >-
        cd /tmp && echo "$$(psql -h postgres -U app -tAc 'select 6 * 7' postgres) $${MODE}" > index.html &&
        exec python3 -m http.server 8000
    ports: ["127.0.0.1:${PORT}:8000"]
    stop_signal: SIGKILL
    depends_on:
      postgres: {condition: service_healthy}
    environment:
      PGPASSWORD: ${DB_PASSWORD:-secret}
      MODE: test
      PATH: /usr/lib/postgresql/15/bin:/usr/bin
    volumes: ["/usr:/usr:ro"]
  postgres:
    build: {context: db}
    entrypoint: [sh, -c]
    command:
      - >-
        initdb -D /data/db -U app --auth trust && echo host all all all trust >> /data/db/pg_hba.conf &&
        exec postgres -D /data/db -h 0.0.0.0 -k /tmp
    environment: {PATH: "/usr/lib/postgresql/15/bin:/usr/bin"}
    volumes:
      - type: volume
        source: data
        target: /data
      - /usr:/usr:ro
    expose: [5432]
    healthcheck:
      test: [CMD-SHELL, pg_isready -h 127.0.0.1 -U app]
      interval: 1s
      timeout: 3s
      retries: 30
volumes: {data: }
"""

PROXY = """
services:
  proxy:
    image: ${BASE}
    command: [haproxy, -db, -f, /etc/proxy.cfg]
    ports: ["${PORT}:8080"]
    configs: [{source: proxy, target: /etc/proxy.cfg}]
    stop_grace_period: 1s
    volumes: ["/usr:/usr:ro"]
    depends_on: [backend]
  backend:
    image: ${BASE}
    command: [node, /srv/server.js]
    stop_grace_period: 1s
    volumes: ["./backend:/srv:ro", "/usr:/usr:ro"]
    deploy: {replicas: 2}
    expose: ["3000"]
    healthcheck: {test: [CMD, node, /srv/check.js], interval: 1s}
configs:
  proxy:
    content: |
      defaults
          mode http
          timeout client 5s
          timeout server 5s
          timeout connect 5s
      listen all
          bind :8080
          server backend backend:3000
"""
CHECK = "require('net').connect(3000).on('connect', () => process.exit(0))"
SERVER = "require('http').createServer((_, answer) => answer.end('from node')).listen(3000)"

FRAGMENTS = """
x-common: &common
  image: ${BASE}
  restart: on-failure
  stop_signal: SIGKILL
  volumes: ["words:/words", "/usr:/usr:ro"]
services:
  base: {<<: *common, profiles: [never]}
  writer:
    extends: {service: base}
    profiles: []
    env_file: words.env
    command: ["sh", "-c", "echo $${FIRST} $$SECOND 100% > /words/index.html; exec sleep 1000"]
    healthcheck: {test: [CMD, test, -s, /words/index.html], interval: 1s}
    networks: {default: {aliases: [author]}}
  reader:
    <<: *common
    command: python3 -m http.server --directory /words 8000
    ports: ["${PORT}:8000"]
    environment: {AUTHOR: author}
    depends_on: {writer: {condition: service_healthy}}
volumes: {words: {}}
"""

HARDENED = """
name: Hard
services:
  app:
    image: ${BASE}
    entrypoint: python3 -m http.server
    command: "--directory /run/secrets 8000"
    working_dir: /tmp
    user: "1000:1000"
    read_only: true
    tmpfs: /tmp
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    stop_grace_period: 2s
    stop_signal: SIGINT
    init: true
    ports: ["${PORT}:8000"]
    secrets: [token]
    volumes: ["/usr:/usr:ro"]
secrets: {token: {file: ./token}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with application_folder(tmp_path) as made:
        yield made


def up(folder: Folder, text: str) -> str:
    """Import a compose file and run it; the address of its port."""
    port = free_port()
    (folder.path / ".env").write_text(f"PORT={port}\nBASE={folder.image}\n")
    (folder.path / "compose.yaml").write_text(text)
    folder.kirsch("import", "compose")
    folder.kirsch("up", "-d", ".")
    return f"http://127.0.0.1:{port}"


@contextmanager
def removed_afterwards(folder: Folder, volume: str) -> Iterator[None]:
    """Take an application down, and its volume away."""
    try:
        yield
    finally:
        folder.kirsch("down", ".")
        folder.podman("volume", "rm", volume)


def eventually_page(url: str, text: str) -> None:
    eventually(lambda: page_or_none(url) == text, what=text)


@pytest.mark.slow
def test_a_page_that_is_built_and_its_store(folder: Folder):
    (folder.path / "web").mkdir()
    (folder.path / "web/Dockerfile").write_text(f"FROM {folder.image}\nCOPY app.py /\nCMD python3 /app.py\n")
    (folder.path / "web/app.py").write_text(COUNTER.replace("WORDS", "visit"))
    url = up(folder, PAGE_AND_STORE)
    eventually_page(url, "visit 1")
    # What has changed is built again, and starts anew; the store goes on.
    (folder.path / "web/app.py").write_text(COUNTER.replace("WORDS", "seen"))
    told = folder.kirsch("up", "-d", ".", "--json")
    assert {unit["name"] for unit in json.loads(told)["units"]} == {"web.container", "store.container"}
    # Looks that had no answer in time have been counted too.
    eventually(lambda: int((page_or_none(url) or "").partition("seen ")[2] or 0) > 1, 60, "seen")
    assert "nothing has changed" in folder.kirsch("up", "-d", ".")


@pytest.mark.soak
def test_an_application_that_waits_for_its_database(folder: Folder):
    (folder.path / "db").mkdir()
    (folder.path / "db/passwd").write_text("root:x:0:0::/:/bin/sh\npostgres:x:1000:1000::/tmp:/bin/sh\n")
    (folder.path / "db/Containerfile").write_text(
        f"FROM {folder.image}\nCOPY passwd /etc/passwd\nCOPY --chown=1000:1000 data /data\nUSER 1000:1000\n"
    )
    (folder.path / "db/data").mkdir()
    (folder.path / "db/data/kept").touch()
    with removed_afterwards(folder, "shop-data"):
        eventually_page(up(folder, DATABASE), "42 test\n")


@pytest.mark.soak
def test_a_proxy_before_several(folder: Folder):
    (folder.path / "backend").mkdir()
    (folder.path / "backend/server.js").write_text(SERVER)
    (folder.path / "backend/check.js").write_text(CHECK)
    eventually_page(up(folder, PROXY), "from node")


@pytest.mark.soak
def test_fragments_and_a_volume_of_two(folder: Folder):
    (folder.path / "words.env").write_text("FIRST=two words\nSECOND=more\n")
    with removed_afterwards(folder, "app-words"):
        eventually_page(up(folder, FRAGMENTS), "two words more 100%\n")


@pytest.mark.soak
def test_a_hardened_one_with_a_secret(folder: Folder):
    url = up(folder, HARDENED)
    assert eventually(lambda: page_or_none(f"{url}/token"), what="the secret")
    (box,) = folder.boxes()
    status = folder.podman("exec", box, "cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
