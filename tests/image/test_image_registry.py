"""Images sent to real registries and fetched from them."""

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.application import Application, descendants
from tests.deadline import eventually

from kirsch.cli.main import main
from kirsch.cluster.image.lock import registry_lock, shared
from kirsch.cluster.image.reference import ImageError, Reference
from kirsch.cluster.image.registry import Registry, explain, of_cluster, registry_of
from kirsch.cluster.image.registry_client import RegistryClient, garbage_collect
from kirsch.cluster.image.transfer import TRIES, by_proxy, certificate_folder, transfer
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.authority import authority, issue
from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

live = [pytest.mark.machines, pytest.mark.slow, pytest.mark.root]
ROOT = Path(__file__).parents[2]
TINY = "FROM scratch\nCOPY hello /hello\n"


@pytest.fixture
def tiny(podman, tmp_path) -> str:
    """An image of one file."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "Containerfile").write_text(TINY)
    (folder / "hello").write_text("hello")
    podman.kirsch("image", "build", folder, "-t", podman.prefix)
    return podman.prefix


def test_podmans_words_are_told_to_people():
    name = Reference.parse("r:5000/notes:1")
    told = {
        "server gave HTTP response to HTTPS client": "--insecure r:5000",
        "x509: certificate signed by unknown authority": "not trusted",
        "remote error: tls: bad certificate": "lets nobody in",
        "manifest unknown: manifest unknown": "has no image notes:1",
        "manifest blob unknown: blob unknown to registry": "do this again",
        "dial tcp: connect: connection refused": "does not answer",
        "authentication required": "podman login r:5000",
        "write /x: no space left on device": "no space",
        "something else": "something else",
    }
    for said, words in told.items():
        assert words in explain(said, "r:5000", name)


def test_insecure_is_for_the_registry_that_is_named_only():
    name = Reference.parse("r:5000/notes")
    assert registry_of(name, "r:5000").insecure
    assert not registry_of(name).insecure
    with pytest.raises(ImageError, match="--insecure is for other:5000"):
        registry_of(name, "other:5000")
    with pytest.raises(ImageError, match="names no registry"):
        registry_of(Reference.parse("notes"))


def test_a_registrys_place():
    assert Registry("registry.example").place == ("registry.example", 443)
    assert Registry("registry.example", insecure=True).places == [
        ("registry.example", 443),
        ("registry.example", 80),
    ]
    assert Registry("registry.example:5000", insecure=True).places == [("registry.example", 5000)]
    assert Registry("[fd00::1]:5000").place == ("fd00::1", 5000)
    with pytest.raises(ImageError):
        _ = Registry("h:99999").place


def test_a_registry_behind_a_proxy_is_left_to_podman(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert not by_proxy("registry.example")
    monkeypatch.setenv("NO_PROXY", "registry.example")
    assert not by_proxy("registry.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert by_proxy("other.example")
    assert not by_proxy("registry.example")
    assert not by_proxy("127.0.0.1")
    assert not by_proxy("localhost")


def test_a_host_whose_name_cannot_be_is_told_in_a_line():
    name = f"{'a' * 70}.example"
    with pytest.raises(ImageError, match="does not answer at port 443"), certificate_folder(Registry(name)):
        pass


def test_a_clusters_registry_is_on_its_first_member():
    machine = MachineRecord("n1", "1" * 32, "10.201.0.2", etcd=True)
    registry = of_cluster(ClusterRecord("c", "i", "", "10.201.0.0/24", (machine,)))
    assert registry.address == "10.201.0.2:5000"
    assert set(registry.linked()) == {"ca.crt", "client.cert", "client.key"}
    argv = registry.push("localhost/a:1", Reference.parse("a:1").at(registry.address), Path("/tls")).argv
    assert argv[-4:] == ("--cert-dir", "/tls", "localhost/a:1", "docker://10.201.0.2:5000/a:1")


def test_a_machine_of_a_cluster_that_was_told_to_keeps_the_images():
    machines = (
        MachineRecord("n1", "1" * 32, "10.201.0.1", etcd=True),
        MachineRecord("n2", "2" * 32, "10.201.0.2", container="c-n2"),
    )
    cluster = ClusterRecord("c", "i", "", "10.201.0.0/24", machines)
    assert of_cluster(cluster).unreachable("at all") == (
        "registry 10.201.0.1:5000 does not answer at all; n1 keeps the images of c: "
        "`kirsch cluster images MACHINE --cluster c` has another machine keep them"
    )
    moved = of_cluster(replace(cluster, keeper="n2"))
    assert moved.address == "10.201.0.2:5000"
    assert "`kirsch cluster start c n2` switches it on" in moved.away
    # One that has left keeps nothing.
    assert of_cluster(replace(cluster, keeper="n3")).address == "10.201.0.1:5000"


class Silent:
    def begun(self, name: str) -> None: ...
    def done(self, name: str, seconds: float) -> None: ...
    def undoing(self, name: str) -> None: ...


def test_a_registry_that_hangs_up_is_asked_again_why(tmp_path):
    def carry(script: str) -> int:
        """How often it was tried."""
        (tmp_path / "tries").write_text("")
        command = Command(("sh", "-c", f"echo >> {tmp_path}/tries; {script}; exit 1"))
        with pytest.raises(ImageError, match=r"lets nobody in|does not answer"):
            transfer(command, "push x", Registry("r"), Reference.parse("r:1/x"), Runner(), Silent())
        return len((tmp_path / "tries").read_text())

    hangs_up = "echo Error: write: connection reset by peer"
    refuses = "echo Error: remote error: tls: bad certificate"
    assert carry(refuses) == 1
    assert (
        carry(f"if test -s {tmp_path}/second; then {refuses}; else echo > {tmp_path}/second; {hangs_up}; fi")
        == 2
    )
    assert carry(hangs_up) == TRIES


def test_nothing_is_pruned_while_something_is_sent(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine = MachineRecord("n1", "1" * 32, "127.0.0.1", etcd=True)
    cluster = ClusterRecord("c", "i", "", "10.201.0.0/24", (machine,))
    cluster.save()
    with shared(registry_lock(of_cluster(cluster).address)):
        assert main(["image", "prune", "--on", "c"]) == 1
    assert capsys.readouterr().err == (
        "kirsch: something is being sent to c, or removed there: do this again later\n"
    )


# Of "open sesame", by bcrypt, as docker-registry wants it.
HASH = "$2b$04$wdI/9A7D/fKyB2g2MtrT/.eQxR9J.DEvAGhVedT6RxjYCGtVhBsKS"


class TestLive:
    pytestmark = live

    @pytest.mark.soak
    def test_an_image_goes_and_comes_back_by_plain_http_for_who_says_so(self, podman, tiny, registry):
        at = registry().address
        name = f"{at}/team/{tiny}:1.0"
        refused = podman.kirsch("image", "push", tiny, name, ok=False)
        assert f"--insecure {at}" in refused.stderr
        podman.kirsch("image", "push", tiny, name, "--insecure", at)
        podman.kirsch("image", "rm", tiny)
        assert podman.names() == []
        podman.kirsch("image", "pull", name, "--insecure", at)
        rows = json.loads(podman.kirsch("image", "list", "--json").stdout)
        mine = [row for row in rows if tiny in row["image"]]
        assert [(row["image"], row["tag"]) for row in mine] == [(f"{at}/team/{tiny}", "1.0")]
        assert mine[0]["content"]
        podman.kirsch("image", "pull", f"{at}/team/{tiny}:{mine[0]['content']}", "--insecure", at)

    def test_a_base_that_is_pinned_is_taken_from_its_registry(self, podman, tiny, registry, tmp_path):
        at = registry().address
        settings = tmp_path / "registries.conf"
        settings.write_text(f'[[registry]]\nlocation = "{at}"\ninsecure = true\n')
        podman.environment["CONTAINERS_REGISTRIES_CONF"] = str(settings)
        # As official images are: an index of one image for each architecture.
        index = f"localhost/{tiny}-index"
        podman.podman("manifest", "create", index)
        podman.podman("manifest", "add", index, f"containers-storage:localhost/{tiny}")
        podman.podman("manifest", "push", "--all", index, f"docker://{at}/team/{tiny}:1")
        podman.podman("manifest", "rm", index)
        podman.kirsch("image", "rm", tiny)
        folder = tmp_path / "more"
        folder.mkdir()
        (folder / "more").write_text("more")
        file = folder / "Containerfile"
        file.write_text(f"ARG BASE={at}/team/{tiny}:1\nFROM ${{BASE}}\nCOPY more /more\n")
        subprocess.run([sys.executable, ROOT / "scripts/pin", file], check=True, capture_output=True)
        (pinned,) = re.findall("^ARG BASE=(.*@sha256:.*)$", file.read_text(), re.MULTILINE)
        done = podman.kirsch("image", "build", folder, "-t", f"{tiny}-more")
        assert f"base {pinned}\n" in done.stdout
        assert len(json.loads(podman.podman("image", "inspect", f"{tiny}-more"))[0]["RootFS"]["Layers"]) == 2

    @pytest.mark.soak
    def test_a_machine_that_is_away_keeps_no_other_from_being_pruned(
        self, podman, web, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        monkeypatch.setitem(podman.environment, "XDG_DATA_HOME", str(tmp_path))
        there = podman.run(web, "--user", "root", "--entrypoint", '["sleep", "infinity"]')
        machines = (
            MachineRecord("n1", "1" * 32, "127.0.0.1", etcd=True, container=f"{podman.prefix}-none"),
            MachineRecord("n2", "2" * 32, "127.0.0.1", container=there),
        )
        ClusterRecord("c", "i", "", "10.201.0.0/24", machines).save()
        half = podman.kirsch("image", "prune", "--on", "c", ok=False)
        assert half.stdout == "n2: 0 images removed\n"
        assert re.search("^kirsch: the registry keeps all its images: ", half.stderr, re.MULTILINE)
        assert re.search(f"^kirsch: n1: .*{podman.prefix}-none", half.stderr, re.MULTILINE)

    @pytest.mark.soak
    def test_an_image_without_a_name_wants_one_there(self, podman, tiny, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        monkeypatch.setitem(podman.environment, "XDG_DATA_HOME", str(tmp_path))
        machine = MachineRecord("n1", "1" * 32, "127.0.0.1", etcd=True)
        ClusterRecord("c", "i", "", "10.201.0.0/24", (machine,)).save()
        id = podman.podman("image", "inspect", tiny, "--format", "{{.Id}}")[:12]
        refused = podman.kirsch("image", "push", id, "--on", "c", ok=False)
        assert refused.stderr == (
            f"kirsch: {id} is an image's id: say after it by which name the image is to go\n"
        )

    @pytest.mark.soak
    def test_a_registry_that_wants_a_password_gets_what_podman_keeps(self, podman, tiny, registry, tmp_path):
        at = registry(passwords=f"ali:{HASH}\n").address
        passwords = tmp_path / "auth.json"
        passwords.write_text("{}")
        podman.environment["REGISTRY_AUTH_FILE"] = str(passwords)
        push = ("image", "push", tiny, f"{at}/{tiny}", "--insecure", at)
        refused = podman.kirsch(*push, ok=False)
        assert refused.stderr == f"kirsch: registry {at}: it refuses: `podman login {at}`\n"
        login = ["podman", "login", "--tls-verify=false", "--username", "ali", "--password-stdin", at]
        subprocess.run(login, input=b"open sesame", env=podman.environment, check=True, capture_output=True)
        podman.kirsch(*push)
        podman.kirsch("image", "pull", f"{at}/{tiny}", "--insecure", at)

    def test_a_registry_with_certificates_lets_in_who_has_one(self, podman, tiny, registry, tmp_path):
        signer, server, client = self.pairs(tmp_path, "127.0.0.1")
        at = registry(**server, authority=signer).address
        certificates = Certificates(signer, client["certificate"], client["key"])
        self.push(podman, tiny, Registry(at, certificates))
        with pytest.raises(ImageError, match="not trusted"):
            self.push(podman, tiny, Registry(at))
        other, _, stranger = self.pairs(tmp_path / "other", "127.0.0.1")
        with pytest.raises(ImageError, match="not trusted"):
            self.push(podman, tiny, Registry(at, Certificates(other, *stranger.values())))
        with pytest.raises(ImageError, match="lets nobody in"):
            self.push(podman, tiny, Registry(at, Certificates(signer, *stranger.values())))

    @pytest.mark.soak
    def test_a_certificate_of_another_host_is_told(self, podman, tiny, registry, tmp_path):
        signer, server, client = self.pairs(tmp_path, "registry.example")
        at = registry(**server).address
        with pytest.raises(ImageError, match="of another host"):
            self.push(podman, tiny, Registry(at, Certificates(signer, *client.values())))

    @pytest.mark.soak
    def test_a_registry_that_is_away_is_told_at_once(self, podman, tiny):
        with socket.create_server(("127.0.0.1", 0)) as server:
            at = f"127.0.0.1:{server.getsockname()[1]}"
        refused = podman.kirsch("image", "push", tiny, f"{at}/x", "--insecure", at, ok=False)
        assert "does not answer" in refused.stderr
        assert refused.stderr.count("\n") == 1

    def test_what_a_registry_does_not_have_is_told(self, podman, registry):
        at = registry().address
        refused = podman.kirsch("image", "pull", f"{at}/nothing:1", "--insecure", at, ok=False)
        assert refused.stderr == f"kirsch: registry {at}: it has no image nothing:1\n"

    @pytest.mark.soak
    def test_what_is_no_registry_is_told(self, podman, tiny, tmp_path):
        site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        threading.Thread(target=site.serve_forever, daemon=True).start()
        at = f"127.0.0.1:{site.server_port}"
        for words in (("push", tiny, f"{at}/{tiny}"), ("pull", f"{at}/{tiny}")):
            refused = podman.kirsch("image", *words, "--insecure", at, ok=False)
            assert refused.stderr == f"kirsch: registry {at}: no registry of images answers there\n"
        site.shutdown()
        site.server_close()

    def test_a_registry_forgets_what_nobody_names(self, podman, tiny, registry, tmp_path):
        signer, server, client = self.pairs(tmp_path / "pki", "127.0.0.1")
        at = Registry(registry(**server).address, Certificates(signer, client["certificate"], client["key"]))
        contents = []
        for text in ("hello", "changed", "changed again"):
            (tmp_path / "tiny/hello").write_text(text)
            podman.kirsch("image", "build", tmp_path / "tiny", "-t", podman.prefix)
            self.push(podman, tiny, at)
            rows = json.loads(podman.kirsch("image", "list", "--json").stdout)
            contents += [
                row["content"]
                for row in rows
                if row["image"] == f"localhost/{tiny}" and row["tag"] == "latest"
            ]
        assert len(set(contents)) == 3
        with RegistryClient(at) as client:
            assert list(client.paths()) == [tiny]
            assert set(client.tags(tiny)) == {"latest", *contents}
            # The second is a unit's, the third is the latest.
            assert garbage_collect(client, [f"[Container]\nImage={at.address}/{tiny}:{contents[1]}\n"]) == 1
            assert set(client.tags(tiny)) == {"latest", *contents[1:]}
            assert garbage_collect(client, []) == 1
            assert set(client.tags(tiny)) == {"latest", contents[2]}

    def test_only_what_changed_is_sent(self, podman, application, registry, tmp_path):
        where = tmp_path / "registry-0/store/docker/registry/v2/blobs"
        at = registry().address
        name = f"{at}/{podman.prefix}"
        podman.kirsch("image", "build", application, "-t", podman.prefix)
        podman.kirsch("image", "push", podman.prefix, name, "--insecure", at)
        before = self.size(where)
        module = application / "webapp/__init__.py"
        module.write_text(module.read_text().replace("first", "second"))
        podman.kirsch("image", "build", application, "-t", podman.prefix)
        podman.kirsch("image", "push", podman.prefix, name, "--insecure", at)
        assert before > 20_000_000
        assert self.size(where) - before < 1_000_000

    def test_what_was_replaced_is_pruned(self, podman, tiny, tmp_path):
        old = podman.names()
        (tmp_path / "tiny/hello").write_text("changed")
        podman.kirsch("image", "build", tmp_path / "tiny", "-t", podman.prefix)
        gone = podman.kirsch("image", "prune").stdout
        content = next(name for name in old if not name.endswith(":latest"))
        assert f"{content} is removed" in gone
        assert content not in podman.names()
        assert f"localhost/{podman.prefix}:latest" in podman.names()

    def test_what_a_release_could_bring_back_is_kept(self, podman, tiny, tmp_path):
        (old,) = (name for name in podman.names() if not name.endswith(":latest"))
        (tmp_path / "tiny/hello").write_text("changed")
        podman.kirsch("image", "build", tmp_path / "tiny", "-t", podman.prefix)
        folder = tmp_path / "shop"
        folder.mkdir()
        shop = Application(folder)
        try:
            for image in (old, f"localhost/{podman.prefix}"):
                shop.unit(
                    "a.container",
                    f"[Container]\nImage={image}\n[X-Kirsch-Process]\nExecStart=sleep 1000\n",
                )
                shop.ok("up", "-d")
            assert old not in shop.ok("cat", "a")
            assert old not in shop.ok("image", "prune")
            assert old in podman.names()
            shop.ok("rollback", "shop", "1")
            assert f"Image={old}" in shop.ok("cat", "a")
        finally:
            shop.close()
        assert f"{old} is removed" in podman.kirsch("image", "prune").stdout

    def test_what_a_killed_build_uses_is_no_reason_not_to_prune(self, podman, web, tmp_path):
        for text in ("FROM {}\nENV A=1\n", "FROM {}\nENV A=2\n"):
            (tmp_path / "Containerfile").write_text(text.format(web))
            podman.kirsch("image", "build", tmp_path, "-t", podman.prefix)
            if "1" in text:
                self.break_off(podman, f"FROM localhost/{podman.prefix}\nRUN sleep 600\n")
        try:
            podman.kirsch("image", "prune")
        finally:
            podman.podman("rm", "--force", *self.working(podman))
        assert f"localhost/{podman.prefix}:latest" in podman.names()

    def break_off(self, podman, containerfile: str) -> None:
        """Kill a build in its first step."""
        command = ["podman", "--runtime", "runc", "build", "--file", "-", "--tag", f"{podman.prefix}-broken"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=podman.environment) as building:
            assert building.stdin
            building.stdin.write(containerfile.encode())
            building.stdin.close()
            eventually(lambda: self.working(podman))
            for each in descendants(building.pid):
                os.kill(each, signal.SIGKILL)

    @staticmethod
    def working(podman) -> list[str]:
        """The containers of builds from the test's image."""
        words = ("ps", "--all", "--external", "--format", "{{.ID}} {{.Names}}")
        lines = [line.split() for line in podman.podman(*words).splitlines()]
        return [id for id, *names in lines if any(podman.prefix in name for name in names)]

    @staticmethod
    def push(podman, image: str, registry: Registry) -> None:
        from kirsch.cluster.image.transfer import push

        push(image, Reference.parse(image).at(registry.address), registry, Runner(), Silent())

    @staticmethod
    def pairs(folder: Path, host: str) -> tuple[Path, dict[str, Path], dict[str, Path]]:
        """An authority, a server's certificate of it, a client's."""
        folder.mkdir(exist_ok=True)
        signer = authority("test")
        made: list[dict[str, Path]] = []
        for name, hosts in (("server", [host]), ("client", [])):
            pair = issue(signer, name, *hosts)
            files = {"certificate": folder / f"{name}.crt", "key": folder / f"{name}.key"}
            files["certificate"].write_bytes(pair.certificate)
            files["key"].write_bytes(pair.key)
            made.append(files)
        (folder / "ca.crt").write_bytes(signer.certificate)
        return folder / "ca.crt", made[0], made[1]

    @staticmethod
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
