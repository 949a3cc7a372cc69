"""Compose files as people write them, read as applications of kirsch."""

import contextlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cli.convert import of_compose
from kirsch.cli.errors import Failure
from kirsch.cluster.application import load
from kirsch.cluster.convert.compose import read
from kirsch.cluster.convert.compose_file import ComposeError, env_files, variables
from kirsch.cluster.runtime.command_line import expand_variables
from kirsch.unit import Options, UnitFile, UnitName, expand, split_words

KIRSCH = str(Path(sys.executable).with_name("kirsch"))

# Shapes of compose files that are common, written for this test.
FILES = {
    "flask with redis": """
services:
  web:
    build: .
    ports: ["8000:5000"]
    depends_on: [redis]
    environment: {REDIS_HOST: redis}
  redis: {image: "redis:7-alpine"}
""",
    "wordpress": """
services:
  db:
    image: mariadb:11
    command: '--default-authentication-plugin=mysql_native_password'
    volumes: [db_data:/var/lib/mysql]
    restart: always
    environment:
      - MYSQL_ROOT_PASSWORD=somewordpress
      - MYSQL_DATABASE=wordpress
    expose: [3306, 33060]
  wordpress:
    image: wordpress:latest
    ports: ["80:80"]
    restart: unless-stopped
    environment: {WORDPRESS_DB_HOST: db}
volumes: {db_data: {}}
""",
    "postgres with health": """
services:
  app:
    image: example/app
    depends_on:
      postgres: {condition: service_healthy}
    environment:
      DATABASE_URL: postgres://app:${DB_PASSWORD:-secret}@postgres:5432/app
  postgres:
    image: postgres:17
    environment: {POSTGRES_PASSWORD: "${DB_PASSWORD:-secret}"}
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U app"]
      interval: 5s
      timeout: 3s
      retries: 10
      start_period: 10s
    volumes:
      - type: volume
        source: data
        target: /var/lib/postgresql/data
volumes: {data: }
""",
    "nginx before node": """
services:
  proxy:
    image: nginx
    ports: ["8080:80"]
    volumes: ["./nginx.conf:/etc/nginx/nginx.conf:ro"]
    depends_on: [backend]
  backend:
    build: {context: backend, dockerfile: Dockerfile.dev, target: dev}
    deploy: {replicas: 3, resources: {limits: {cpus: "0.50", memory: 256M}}}
    expose: ["3000"]
""",
    "elastic": """
services:
  search:
    image: elasticsearch:8.15.0
    environment: [discovery.type=single-node, "ES_JAVA_OPTS=-Xms512m -Xmx512m"]
    ulimits: {memlock: {soft: -1, hard: -1}}
    cap_add: [IPC_LOCK]
    ports: ["9200:9200", "9300-9301:9300-9301", "5353:53/udp"]
    mem_limit: 1gb
""",
    "fragments": """
x-common: &common
  restart: on-failure
  logging: {driver: json-file}
services:
  one: {<<: *common, image: example/one}
  two:
    <<: *common
    image: example/two
    command: ["sh", "-c", "echo 100% of $$HOME"]
""",
    "extends": """
services:
  base: {image: example/base, environment: {LEVEL: info, MODE: base}, profiles: [never]}
  api:
    extends: {service: base}
    environment: {MODE: api}
    profiles: []
""",
    "secrets": """
services:
  app: {image: example/app, secrets: [db_password], read_only: true, tmpfs: /run, user: "1000:1000"}
secrets: {db_password: {file: ./password.txt}}
""",
    "profiles": """
services:
  app: {image: example/app}
  debug: {image: example/debug, profiles: [debug]}
""",
    "hardened": """
name: My Project
services:
  app:
    image: registry.example/team/app:1.2
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true", "seccomp:unconfined"]
    stop_grace_period: 1m30s
    stop_signal: SIGINT
    init: true
    extra_hosts: ["host:10.0.0.1"]
    labels: {team: "a b"}
    sysctls: [net.core.somaxconn=1024]
    entrypoint: /entry --flag "two words"
    working_dir: /srv
    network_mode: host
""",
}


def lines(made, unit):
    return made.files[f"units/{unit}"].splitlines()


@pytest.mark.parametrize("name", FILES)
def test_it_becomes_an_application_that_loads(name, tmp_path):
    made = read(FILES[name], folder="app")
    for path, text in made.files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    application = load(tmp_path)
    for unit in application.start:
        parsed = UnitName.parse(unit)
        template = f"{parsed.service}@.{parsed.type}" if parsed.instance else unit
        Options.parse(UnitFile.parse(application.units[template]), parsed)


def test_services_link_to_what_they_depend_on_and_to_what_they_name():
    made = read(FILES["wordpress"])
    assert "Link=db" in lines(made, "wordpress.container")
    made = read(FILES["postgres with health"])
    assert "Link=postgres" in lines(made, "app.container")
    assert not any(line.startswith("Link=app") for line in lines(made, "postgres.container"))


def test_builds_images_and_the_address_to_open():
    made = read(FILES["flask with redis"], folder="Shop")
    settings = tomllib.loads(made.files["kirsch.toml"])
    assert settings == {
        "name": "shop",
        "open": "http://localhost:8000/",
        "start": ["web", "redis"],
        "images": {"web": {"build": "."}},
    }
    assert "Image=localhost/web" in lines(made, "web.container")
    assert tomllib.loads(read(FILES["wordpress"]).files["kirsch.toml"])["open"] == "http://localhost:80/"


def test_replicas_become_instances_and_their_ports_are_told():
    made = read(FILES["nginx before node"])
    settings = tomllib.loads(made.files["kirsch.toml"])
    assert settings["start"] == ["proxy", "backend@1", "backend@2", "backend@3"]
    assert settings["images"] == {"backend": {"build": "backend", "file": "Dockerfile.dev"}}
    unit = lines(made, "backend@.container")
    assert {"CPU=0.5", "Memory=256M", "Expose=3000", "Spread=hostname"} <= {
        line.replace("0.50", "0.5") for line in unit
    }
    assert any("build.target of backend is not carried over" in remark for remark in made.remarks)
    assert any("./nginx.conf is a path of one machine" in remark for remark in made.remarks)


def test_health():
    unit = lines(read(FILES["postgres with health"]), "postgres.container")
    assert {"HealthCmd=pg_isready -U app", "HealthInterval=5s", "HealthRetries=10", "Sticky=yes"} <= set(unit)


def test_ports():
    unit = lines(read(FILES["elastic"]), "search.container")
    assert [line for line in unit if line.startswith("PublishPort")] == [
        "PublishPort=9200:9200",
        "PublishPort=9300:9300",
        "PublishPort=9301:9301",
        "PublishPort=5353:53/udp",
    ]
    assert "Expose=53/udp" in unit


def test_a_port_stays_at_its_address():
    """What is for this computer alone is not for everybody on a cluster."""
    ports = '["127.0.0.1:5432:5432", "[::1]:80:8080", {target: 90, published: 91, host_ip: 127.0.0.1}]'
    unit = lines(read(f"services: {{db: {{image: x, ports: {ports}}}}}"), "db.container")
    assert [line for line in unit if line.startswith("PublishPort")] == [
        "PublishPort=127.0.0.1:5432:5432",
        "PublishPort=[::1]:80:8080",
        "PublishPort=127.0.0.1:91:90",
    ]


def test_words_of_a_command_and_specifiers_are_kept():
    unit = lines(read(FILES["fragments"]), "two.container")
    assert 'Exec=sh -c "echo 100%% of $HOME"' in unit
    assert "Restart=on-failure" in unit


def test_a_variable_of_the_container_is_not_systemds():
    made = read("services: {web: {image: x, command: [sh, -c, 'echo $${A} $$', '$$B', '$$$$']}}")
    (line,) = [line for line in lines(made, "web.container") if line.startswith("Exec=")]
    words = split_words(line.removeprefix("Exec="))
    assert expand_variables(tuple(words), {"A": "ours"}) == ["sh", "-c", "echo ${A} $", "$B", "$$"]


def test_configs_are_mounted_or_written():
    made = read(
        """
services:
  web:
    image: x
    configs: [page, {source: proxy, target: /etc/proxy.cfg}, {source: elsewhere}]
configs:
  page: {content: "hello ${NAME}\\n"}
  proxy: {file: proxy.cfg}
  elsewhere: {external: true}
""",
        environment={"NAME": "you"},
    )
    assert made.files["configs/page"] == "hello you\n"
    volumes = [line for line in lines(made, "web.container") if line.startswith("Volume=")]
    assert volumes == ["Volume=./configs/page:/page:ro", "Volume=./proxy.cfg:/etc/proxy.cfg:ro"]
    assert made.remarks == ("compose.yaml:5: web: the config elsewhere has neither file nor content here",)


def test_a_volume_keeps_the_name_that_it_has():
    made = read("""
name: shop
services:
  web: {image: x, volumes: [data:/a, named:/b, old:/c, plain:/d]}
volumes: {data: , named: {name: other}, old: {external: true}}
""")
    volumes = [line for line in lines(made, "web.container") if line.startswith("Volume=")]
    assert volumes == ["Volume=shop-data:/a", "Volume=other:/b", "Volume=old:/c", "Volume=shop-plain:/d"]


def test_remarks_have_the_files_order():
    keys = ["cpuset", "tty", "ipc", "pid", "isolation", "logging"]
    made = read("services:\n  web:\n    image: x\n" + "".join(f"    {key}: x\n" for key in keys))
    assert [remark.split()[2] for remark in made.remarks] == keys


def test_a_service_is_found_by_its_other_names():
    made = read("""
services:
  web: {image: x, environment: {DATABASE: "main-db:5432", CACHE: fast}}
  db: {image: x, networks: {back: {aliases: [main-db]}}}
  redis: {image: x, container_name: fast}
""")
    links = [line for line in lines(made, "web.container") if line.startswith("Link=")]
    assert links == ["Link=db:main-db", "Link=redis:fast"]


def test_an_extended_service_keeps_what_it_does_not_change():
    made = read(FILES["extends"])
    assert {"Image=example/base", "Environment=LEVEL=info", "Environment=MODE=api"} <= set(
        lines(made, "api.container")
    )
    assert "units/base.container" not in made.files


def test_profiles_are_left_out_unless_named():
    assert "units/debug.container" not in read(FILES["profiles"]).files
    assert "units/debug.container" in read(FILES["profiles"], profiles=["debug"]).files


def test_what_is_not_carried_over_is_told_with_its_line():
    made = read(FILES["elastic"])
    assert made.remarks == ("compose.yaml:6: search: ulimits is not carried over",)
    made = read(FILES["hardened"])
    assert made.remarks == ("compose.yaml:7: app: security_opt seccomp:unconfined is not carried over",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: [", "compose.yaml:1: "),
        ("", "this is no compose file"),
        ("services: {}", "there are no services"),
        ("services: {web: {}}", "web has neither image nor build"),
        ("services: {web: 1}", "compose.yaml:1: web is no service"),
        ("services: {web: {image: x, ports: [a]}}", "'a' is no port"),
        ("services: {web: {image: x, ports: ['1-2:3-6']}}", "ranges of two sizes"),
        ("services: {web: {image: '${TAG:?name one}'}}", "the variable TAG is not set: name one"),
        ("services: {web: {extends: web}}", "web extends web, which is not there or extends web itself"),
        ("services: {web: {image: x, mem_limit: lots}}", "'lots' is no size"),
    ],
)
def test_a_wrong_file_is_one_line_that_says_where(text, words):
    with pytest.raises(ComposeError) as error:
        read(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A", "1"), ("${A}", "1"), ("${B:-x}", "x"), ("${EMPTY:-x}", "x"), ("${EMPTY-x}", ""),
        ("${A:+y}", "y"), ("${B+y}", ""), ("$$A", "$A"), ("a${A}b", "a1b"), ("${B}", ""),
    ],
)  # fmt: skip
def test_variables_have_the_values_that_compose_gives_them(text, value):
    made = read(
        f"services: {{web: {{image: x, environment: {{V: '{text}'}}}}}}", environment={"A": "1", "EMPTY": ""}
    )
    assert f"Environment=V={value}" in lines(made, "web.container")


def test_a_variable_without_a_value_is_told():
    made = read("services: {web: {image: x, environment: {A: , B: ''}}}")
    assert "Environment=B=" in lines(made, "web.container")
    assert made.remarks == ("compose.yaml:1: web: A has no value here: write one into the unit",)


def test_files_of_variables():
    text = "services: {web: {image: x, env_file: [a.env, {path: b.env}]}}"
    assert env_files(text) == ["a.env", "b.env"]
    said = "# c\nexport A=1\nB='two words'\nC=x # y\n\nnothing\n"
    assert variables(said) == {"A": "1", "B": "two words", "C": "x"}
    made = read(text, env_files={"a.env": "A=two words\n"})
    assert 'Environment="A=two words"' in lines(made, "web.container")
    assert any("there is no b.env" in remark for remark in made.remarks)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=80))
def test_whatever_a_value_is_it_comes_back_as_it_was(value):
    made = read("services: {web: {image: x, environment: {V: '$V'}}}", environment={"V": value})
    file = UnitFile.parse(made.files["units/web.container"])
    (entry,) = [each for each in file.values("Container", "Environment") if each.value]
    (word,) = split_words(expand(entry.value, UnitName.parse("web.container")))
    assert word == f"V={value}"


@given(st.text(alphabet="services:{}[],web image \n&*-'\"", max_size=120))
def test_no_text_breaks_it(text):
    with contextlib.suppress(ComposeError):
        read(text)


@pytest.mark.parametrize("name", FILES)
def test_what_people_write_is_of_the_specifications_schema(name, tmp_path):
    pytest.importorskip("check_jsonschema")
    (tmp_path / "compose.yaml").write_text(FILES[name])
    assert of_compose(tmp_path / "compose.yaml").files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services:\n  web:\n    image: x\n    prots: ['80:80']\n", "4: services.web: "),
        (
            "services:\n  web:\n    image: x\n    healthcheck:\n      retries: []\n",
            "5: services.web.healthcheck.retries: [] is",
        ),
        ("services:\n  web: {image: x}\nvolums: {}\n", "3: $: 'volums' does not match"),
    ],
)
def test_what_the_schema_refuses_is_one_line_that_says_where(text, words, tmp_path):
    pytest.importorskip("check_jsonschema")
    (tmp_path / "compose.yaml").write_text(text)
    with pytest.raises(Failure) as caught:
        of_compose(tmp_path / "compose.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'compose.yaml'}:{words}")
    assert "\n" not in str(caught.value)


class TestCommand:
    def run(self, folder, *arguments):
        command = [KIRSCH, "import", "compose", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)

    @pytest.mark.slow
    def test_a_folder_with_a_compose_file(self, tmp_path):
        (tmp_path / "compose.yaml").write_text(FILES["flask with redis"])
        done = self.run(tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "units/web.container").is_file()
        verified = subprocess.run(
            [KIRSCH, "verify", *map(str, (tmp_path / "units").iterdir())], capture_output=True, text=True
        )
        assert (verified.returncode == 0) == (shutil.which("podman") is not None)
        again = self.run(tmp_path)
        assert again.returncode == 1
        assert "is there already" in again.stderr
        assert self.run(tmp_path, "--force").returncode == 0

    def test_where_there_is_none(self, tmp_path):
        done = self.run(tmp_path)
        assert done.returncode == 1
        assert done.stderr == "kirsch: there is no compose.yaml here: name the compose file\n"
