"""/fleet/v1 to the letter: every status, text, page and field, asked of a real kirschd."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.application import wait_for
from tests.cluster.live import Kirschd, kirschd_in, options, unit_path

pytestmark = pytest.mark.services

SLEEPER = "[Service]\nExecStart=/bin/sleep 1000\n"


@pytest.fixture(scope="module")
def kirschd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kirschd]:
    with kirschd_in(tmp_path_factory.mktemp("fleet")) as running:
        yield running


def put(kirschd: Kirschd, name: str, desired: str | None = None, text: str | None = SLEEPER) -> Any:
    body: dict[str, Any] = {"options": options(text)} if text is not None else {}
    return kirschd.fleet("PUT", unit_path(name), body | ({"desiredState": desired} if desired else {}))


def unit(kirschd: Kirschd, name: str) -> dict[str, Any]:
    answer = kirschd.fleet("GET", unit_path(name))
    assert answer.status == 200
    return answer.json


def state(kirschd: Kirschd, name: str, active: str, sub: str = "") -> Any:
    """A unit's state once it is that, in detail where `sub` is given."""

    def look() -> Any:
        states = kirschd.fleet("GET", f"/state?unitName={name}").json["states"]
        found = states and states[0]["systemdActiveState"] == active
        return states if found and states[0]["systemdSubState"].startswith(sub) else None

    return wait_for(look, f"{name} {active}")


class TestPut:
    def test_a_new_unit_is_created_without_a_body(self, kirschd: Kirschd) -> None:
        answer = put(kirschd, "new.service", "inactive")
        assert (answer.status, answer.body) == (201, b"")
        assert "Content-Type" not in answer.headers
        assert unit(kirschd, "new.service") == {
            "name": "new.service",
            "options": options(SLEEPER),
            "desiredState": "inactive",
            "currentState": "inactive",
            "machineID": "",
        }

    def test_without_a_desired_state_it_is_inactive(self, kirschd: Kirschd) -> None:
        assert put(kirschd, "plain.service").status == 201
        assert unit(kirschd, "plain.service")["desiredState"] == "inactive"

    def test_a_state_alone_is_204(self, kirschd: Kirschd) -> None:
        put(kirschd, "state.service")
        answer = put(kirschd, "state.service", "loaded", text=None)
        assert (answer.status, answer.body) == (204, b"")
        wait_for(lambda: unit(kirschd, "state.service")["currentState"] == "loaded", "loaded")

    def test_the_same_options_are_no_change(self, kirschd: Kirschd) -> None:
        text = "[Unit]\n# said by somebody\nDescription=kept\n\n[Service]\nExecStart=/bin/true\n"
        body = {"text": text}
        assert kirschd.ask("PUT", "/kirsch/v1/units/same.service", body).status == 201
        answer = put(kirschd, "same.service", "inactive", text=text.replace("# said by somebody\n", ""))
        assert answer.status == 204
        assert kirschd.ask("GET", "/kirsch/v1/units/same.service").json["text"] == text

    def test_other_options_replace_and_take_the_unit_back(self, kirschd: Kirschd) -> None:
        put(kirschd, "other.service", "loaded")
        wait_for(lambda: unit(kirschd, "other.service")["currentState"] == "loaded", "loaded")
        assert put(kirschd, "other.service", text="[Service]\nExecStart=/bin/true\n").status == 201
        found = unit(kirschd, "other.service")
        assert (found["options"][0]["value"], found["desiredState"]) == ("/bin/true", "inactive")
        wait_for(lambda: unit(kirschd, "other.service")["currentState"] == "inactive", "taken back")

    def test_the_name_in_the_body_is_the_name_in_the_url(self, kirschd: Kirschd) -> None:
        body = {"options": options(SLEEPER), "desiredState": "inactive"}
        answer = kirschd.fleet("PUT", "/units/a.service", body | {"name": "b.service"})
        text = 'name in URL "a.service" differs from unit name in request body "b.service"'
        assert answer.error == (400, text)
        assert kirschd.fleet("PUT", "/units/a.service", body | {"name": "a.service"}).status == 201
        assert kirschd.fleet("PUT", "/units/a.service", body | {"name": ""}).status == 204

    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            ({"desiredState": "launched"}, 409, "unit does not exist and options field empty"),
            ({"desiredState": "launched", "options": []}, 409, "unit does not exist and options field empty"),
            ({"desiredState": "up", "options": options(SLEEPER)}, 400, 'invalid value "up" for JobState'),
            ({"options": [{"section": "Service"}]}, 400, None),
            ({"options": [{"section": "S", "name": "N", "value": 1}]}, 400, None),
            ({"options": "none"}, 400, None),
            ({"options": 7}, 400, None),
            ({"name": "\ud800", "options": []}, 400, None),
            ({"options": [{"section": "S", "name": "N", "value": "\ud800"}]}, 400, None),
            ({"options": [{"section": "S", "name": "N", "value": "a\nb"}]}, 400, None),
        ],
    )
    def test_a_bad_body(self, kirschd: Kirschd, body: Any, status: int, text: str | None) -> None:
        answer = kirschd.fleet("PUT", "/units/bad.service", body)
        assert answer.error == (status, text or answer.error[1])
        assert answer.error[1]
        assert kirschd.fleet("GET", "/units/bad.service").status == 404

    def test_an_existing_unit_needs_a_state(self, kirschd: Kirschd) -> None:
        put(kirschd, "needs.service")
        text = "must provide DesiredState to update existing unit"
        assert put(kirschd, "needs.service", text=None).error == (409, text)
        assert put(kirschd, "needs.service").error == (409, text)

    @pytest.mark.parametrize("desired", ["loaded", "launched"])
    def test_a_template_is_never_activated(self, kirschd: Kirschd, desired: str) -> None:
        text = 'cannot activate template "many@.service"'
        put(kirschd, "many@.service")
        assert put(kirschd, "many@.service", desired, text=None).error == (400, text)
        assert put(kirschd, "many@.service", "inactive", text=None).status == 204

    @pytest.mark.parametrize(
        ("lines", "text"),
        [
            ("MachineID=x\nMachineOf=a.service", "MachineID cannot be used with Peers"),
            ("MachineID=x\nConflicts=a*", "MachineID cannot be used with Conflicts"),
            ("MachineID=x\nGlobal=true", "MachineID cannot be used with Global"),
            ("MachineID=x\nReplaces=a*", "MachineID cannot be used with Replaces"),
            ("Global=true\nMachineOf=a.service", "Global cannot be used with Peers"),
            ("Global=true\nReplaces=a*", "Global cannot be used with Replaces"),
            ("Conflicts=a*\nReplaces=b*", "Conflicts cannot be used with Replaces"),
            (
                "MachineOf=a.service\nConflicts=a*",
                'unresolvable requirements: peer "a.service" matches conflict "a*"',
            ),
            (
                "MachineOf=a.service\nReplaces=a*",
                'unresolvable requirements: peer "a.service" matches replace "a*"',
            ),
        ],
    )
    def test_options_that_exclude_each_other(self, kirschd: Kirschd, lines: str, text: str) -> None:
        answer = put(kirschd, "torn.service", "inactive", text=f"{SLEEPER}[X-Fleet]\n{lines}\n")
        assert answer.error == (400, text)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a" * 257, "unit name exceeds maximum length (256)"),
            ("nodot", 'unit name must contain "."'),
            ("dot.", 'unit name cannot end in "."'),
            ("a.foo", 'invalid unit type: "foo"'),
            ("a@.mount", 'invalid unit type for template: "mount"'),
            ("a b.service", "invalid character ' ' in unit name"),
            ("@a.service", 'unit name cannot start in "@"'),
        ],
    )
    def test_a_bad_name(self, kirschd: Kirschd, name: str, text: str) -> None:
        status, message = put(kirschd, name).error
        assert status == 400
        assert message.startswith(text)  # kirsch says more

    def test_options_in_a_wrong_section_are_kept(self, kirschd: Kirschd) -> None:
        text = "[Service]\nExecStart=/bin/true\nMachineOf=nobody\n[Install]\nExecStart=x\n[Odd]\nGlobal=7\n"
        assert put(kirschd, "odd.service", "inactive", text=text).status == 201
        assert unit(kirschd, "odd.service")["options"] == options(text)
        answer = put(kirschd, "odd2.service", text=SLEEPER + "[X-Fleet]\nExecStart=x\n")
        assert answer.status == 400


class TestContent:
    @pytest.mark.parametrize("path", ["/units/typed.service", "/machines"])
    def test_of_another_type(self, kirschd: Kirschd, path: str) -> None:
        method = "PATCH" if path == "/machines" else "PUT"
        for given in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            text = "only acceptable Content-Type is application/json"
            assert kirschd.fleet(method, path, b"a=1", Content_Type=given).error == (415, text)
        assert kirschd.fleet(method, path, b"[]").error == (415, "expected 1 Content-Type, got 0")

    def test_with_a_charset(self, kirschd: Kirschd) -> None:
        body = json.dumps({"options": options(SLEEPER)}).encode()
        answer = kirschd.fleet(
            "PUT", "/units/char.service", body, Content_Type="application/json; charset=utf-8"
        )
        assert answer.status == 201

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'"x"', b"null", b"7", b"\xff\xfe", b"[" * 100_000, b"{} {}"]
    )
    def test_that_is_no_json_object(self, kirschd: Kirschd, body: bytes) -> None:
        answer = kirschd.fleet("PUT", "/units/no.service", body, Content_Type="application/json")
        assert answer.status == 400
        assert answer.error[1].startswith("unable to decode body: ")


class TestMethods:
    @pytest.mark.parametrize(
        ("path", "allow", "text"),
        [
            ("", "", ""),
            ("/units", "GET, HEAD", "only GET supported against this resource"),
            (
                "/units/x.service",
                "DELETE, GET, HEAD, PUT",
                "only GET, PUT and DELETE supported against this resource",
            ),
            ("/state", "GET, HEAD", "only GET supported against this resource"),
            ("/state/x.service", "GET, HEAD", "only GET supported against this resource"),
            ("/machines", "GET, HEAD, PATCH", "only GET and PATCH supported against this resource"),
            ("/discovery", "GET, HEAD", "only GET supported against this resource"),
        ],
    )
    def test_wrong_ones_are_405(self, kirschd: Kirschd, path: str, allow: str, text: str) -> None:
        for method in ("GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"):
            if method not in allow.split(", "):
                answer = kirschd.fleet(method, path)
                assert answer.error == (405, text)
                assert answer.headers["Allow"] == allow

    @pytest.mark.parametrize("path", ["/nothing", "/units/a/b", "/state/a/b", "/machines/a", "/__class__"])
    def test_what_is_not_there_is_404(self, kirschd: Kirschd, path: str) -> None:
        assert kirschd.fleet("GET", path).error[0] == 404

    def test_other_parameters_are_passed_over(self, kirschd: Kirschd) -> None:
        for path in ("/units", "/state", "/machines", "/discovery"):
            answer = kirschd.fleet("GET", f"{path}?alt=json&name=x&page=9")
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/json"


class TestDelete:
    def test_of_a_unit(self, kirschd: Kirschd) -> None:
        put(kirschd, "gone.service")
        answer = kirschd.fleet("DELETE", "/units/gone.service")
        assert (answer.status, answer.body) == (204, b"")
        for method in ("GET", "DELETE"):
            assert kirschd.fleet(method, "/units/gone.service").error == (404, "unit does not exist")
            assert kirschd.fleet(method, "/units/no%20name").error == (404, "unit does not exist")


class TestState:
    def test_of_a_unit_that_runs(self, kirschd: Kirschd) -> None:
        put(kirschd, "runs.service", "launched")
        (machine,) = kirschd.fleet("GET", "/machines").json["machines"]
        state(kirschd, "runs.service", "active")
        entity = {
            "name": "runs.service",
            "hash": hashlib.sha1(SLEEPER.encode(), usedforsecurity=False).hexdigest(),
            "machineID": machine["id"],
            "systemdLoadState": "loaded",
            "systemdActiveState": "active",
            "systemdSubState": "running",
        }
        assert kirschd.fleet("GET", "/state/runs.service").json == entity
        query = f"/state?unitName=runs.service&machineID={machine['id']}"
        assert kirschd.fleet("GET", query).json == {"states": [entity]}
        assert entity in kirschd.fleet("GET", f"/state?machineID={machine['id']}").json["states"]
        assert kirschd.fleet("GET", "/state?machineID=other").json == {"states": []}
        found = wait_for(
            lambda: (u := unit(kirschd, "runs.service"))["currentState"] == "launched" and u, "launched"
        )
        assert found["machineID"] == machine["id"]  # type: ignore[index]

    def test_stopped_is_loaded(self, kirschd: Kirschd) -> None:
        put(kirschd, "stops.service", "launched")
        state(kirschd, "stops.service", "active")
        assert put(kirschd, "stops.service", "loaded", text=None).status == 204
        wait_for(lambda: unit(kirschd, "stops.service")["currentState"] == "loaded", "loaded")
        assert kirschd.fleet("GET", "/state/stops.service").json["systemdActiveState"] == "inactive"

    def test_of_one_that_has_none(self, kirschd: Kirschd) -> None:
        put(kirschd, "none.service")
        for name in ("none.service", "nobody.service", "no%20name"):
            assert kirschd.fleet("GET", f"/state/{name}").error == (404, "unit state does not exist")

    def test_a_global_unit_is_on_no_machine_of_its_own(self, kirschd: Kirschd) -> None:
        put(kirschd, "all.service", "launched", text=SLEEPER + "[X-Fleet]\nGlobal=true\n")
        (found,) = state(kirschd, "all.service", "active")
        assert found["machineID"]
        entity = unit(kirschd, "all.service")
        assert (entity["machineID"], entity["desiredState"]) == ("", "launched")
        assert "currentState" not in entity

    def test_an_instance_has_its_templates_options(self, kirschd: Kirschd) -> None:
        text = "[Unit]\nDescription=No %i\n[Service]\nExecStart=/bin/sleep 100%i\n"
        put(kirschd, "part@.service", text=text)
        assert put(kirschd, "part@1.service", "launched", text=None).error[0] == 409
        assert put(kirschd, "part@1.service", "launched", text=text).status == 201
        state(kirschd, "part@1.service", "active")

    def test_a_template_keeps_its_description_and_its_instance_has_it_filled_in(
        self, kirschd: Kirschd
    ) -> None:
        text = "[Unit]\nDescription=No %i\n[Service]\nExecStart=/bin/sleep 100%i\n"
        put(kirschd, "told@.service", text=text)
        put(kirschd, "told@7.service", "launched", text=text)
        state(kirschd, "told@7.service", "active")
        for name in ("told@.service", "told@7.service"):
            assert unit(kirschd, name)["options"] == options(text)
        lines = {line["name"]: line for line in kirschd.ask("GET", "/kirsch/v1/units").json["units"]}
        assert lines["told@7.service"]["description"] == "No 7"

    def test_a_unit_that_is_starting_is_launched(self, kirschd: Kirschd, tmp_path: Path) -> None:
        """Its ExecStartPre= waits for a byte in a fifo."""
        fifo = tmp_path / "go"
        os.mkfifo(fifo)
        text = f"[Service]\nExecStartPre=/bin/sh -c 'read byte < {fifo}'\nExecStart=/bin/sleep 1000\n"
        put(kirschd, "starts.service", "launched", text=text)
        state(kirschd, "starts.service", "activating", "start-pre")
        assert unit(kirschd, "starts.service")["currentState"] == "launched"
        fifo.write_text("x\n")
        state(kirschd, "starts.service", "active")
        assert unit(kirschd, "starts.service")["currentState"] == "launched"


class TestMachines:
    def test_metadata(self, kirschd: Kirschd) -> None:
        (machine,) = kirschd.fleet("GET", "/machines").json["machines"]
        assert sorted(machine) == ["id", "metadata", "primaryIP"]
        before, path = machine["metadata"], f"/{machine['id']}/metadata"
        put(kirschd, "picky.service", "launched", text=SLEEPER + "[X-Fleet]\nMachineMetadata=disk=ssd\n")
        assert unit(kirschd, "picky.service")["machineID"] == ""

        def patch(*operations: dict[str, Any]) -> Any:
            answer = kirschd.fleet("PATCH", "/machines", list(operations))
            assert (answer.status, answer.body) == (204, b"")
            return kirschd.fleet("GET", "/machines").json["machines"][0]["metadata"]

        changed = patch(
            {"op": "add", "path": f"{path}/disk", "value": "hdd"},
            {"op": "replace", "path": f"{path}/disk", "value": {"value": "ssd"}},
            {"op": "add", "path": "/away/metadata/disk", "value": "ssd"},
        )
        assert changed == before | {"disk": "ssd"}
        state(kirschd, "picky.service", "active")
        renamed = [{"op": "remove", "path": f"{path}/hostname"}]
        assert kirschd.fleet("PATCH", "/machines", renamed).error == (
            400,
            "hostname is what the machine is called, and cannot be set",
        )
        assert (
            patch({"op": "remove", "path": f"{path}/disk"}, {"op": "remove", "path": f"{path}/no"}) == before
        )
        assert patch() == before
        wait_for(lambda: unit(kirschd, "picky.service")["machineID"] == "", "it leaves")

    @pytest.mark.parametrize(
        ("operation", "text"),
        [
            ({"op": "move", "path": "/m/metadata/k"}, "invalid op: expect add, remove, or replace"),
            ({"path": "/m/metadata/k"}, "invalid op: expect add, remove, or replace"),
            ({"op": "add", "path": "/m/metadata/a b", "value": "x"}, "machine metadata path invalid"),
            ({"op": "add", "path": "/m/metadata/", "value": "x"}, "machine metadata path invalid"),
            ({"op": "remove", "path": "m/metadata/k"}, "machine metadata path invalid"),
            ({"op": "remove", "path": 7}, "machine metadata path invalid"),
            ({"op": "remove", "path": "/m/metadata/k\n"}, "machine metadata path invalid"),
            ({"op": "remove", "path": "/\ud800/metadata/k"}, "machine metadata path invalid"),
            *(
                (
                    {"op": "add", "path": "/m/metadata/k", **value},
                    "invalid value: add and replace require a value",
                )
                for value in ({}, {"value": ""}, {"value": 7}, {"value": {"value": ""}}, {"value": "\ud800"})
            ),
        ],
    )
    def test_a_bad_operation_does_nothing(self, kirschd: Kirschd, operation: Any, text: str) -> None:
        good = {"op": "add", "path": "/m/metadata/k", "value": "x"}
        (machine,) = kirschd.fleet("GET", "/machines").json["machines"]
        good["path"] = f"/{machine['id']}/metadata/half"
        assert kirschd.fleet("PATCH", "/machines", [good, operation]).error == (400, text)
        assert kirschd.fleet("GET", "/machines").json["machines"] == [machine]

    @pytest.mark.parametrize("body", [{}, {"op": "add"}, ["add"], 7])
    def test_a_body_that_is_no_list_of_operations(self, kirschd: Kirschd, body: Any) -> None:
        assert kirschd.fleet("PATCH", "/machines", body).error[0] == 400


class TestPages:
    def test_of_units(self, kirschd: Kirschd) -> None:
        connection = kirschd.connection()
        for number in range(205):
            body = {"options": options(SLEEPER)}
            path = f"/fleet/v1/units/page{number:03}.service"
            assert connection.ask("PUT", path, body).status == 201
        connection.close()
        names, query, sizes = [], "", []
        while True:
            page = kirschd.fleet("GET", f"/units{query}").json
            names += [unit["name"] for unit in page["units"]]
            sizes.append(len(page["units"]))
            if "nextPageToken" not in page:
                break
            query = f"?alt=json&nextPageToken={page['nextPageToken']}"
        assert names == sorted(set(names))
        assert sum(name.startswith("page") for name in names) == 205
        assert sizes[:2] == [100, 100]
        assert len(sizes) == 3

    @pytest.mark.parametrize(
        "token", ["", "x", "zzzzzzzz", "%00", "AAAAAA==", "ZAAAAA==", "FAABAA==", "%C3%A9"]
    )
    @pytest.mark.parametrize("path", ["/units", "/state", "/machines"])
    def test_a_bad_token(self, kirschd: Kirschd, path: str, token: str) -> None:
        answer = kirschd.fleet("GET", f"{path}?nextPageToken={token}")
        assert answer.error == (400, "invalid value of nextPageToken query parameter")

    def test_two_tokens(self, kirschd: Kirschd) -> None:
        answer = kirschd.fleet("GET", "/units?nextPageToken=ZAABAA==&nextPageToken=ZAACAA==")
        assert answer.error == (400, "invalid value of nextPageToken query parameter")

    def test_fleets_own_tokens(self, kirschd: Kirschd) -> None:
        first = kirschd.fleet("GET", "/units")
        assert kirschd.fleet("GET", "/units?nextPageToken=ZAABAA==").json == first.json
        assert kirschd.fleet("GET", "/units?nextPageToken=ZADoAw==").json == {"units": []}


class TestDiscovery:
    def test_every_method_it_describes_is_there(self, kirschd: Kirschd) -> None:
        answer = kirschd.fleet("GET", "/discovery")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        document = answer.json
        assert (document["kind"], document["id"]) == ("discovery#restDescription", "fleet:v1")
        put(kirschd, "found.service", "launched")
        state(kirschd, "found.service", "active")
        for resource in document["resources"].values():
            for name, method in resource["methods"].items():
                path = "/" + document["servicePath"] + method["path"].replace("{unitName}", "found.service")
                if name == "Delete":
                    continue
                body = {"desiredState": "launched"} if "request" in method else None
                answer = kirschd.ask(method["httpMethod"], path, body)
                assert answer.status in (200, 204)
                if "response" in method:
                    properties = document["schemas"][method["response"]["$ref"]]["properties"]
                    assert set(answer.json) <= set(properties)

    def test_its_references_lead_somewhere(self, kirschd: Kirschd) -> None:
        document = kirschd.fleet("GET", "/discovery").json
        text = json.dumps(document)
        for name in document["schemas"]:
            assert text.count(f'{{"$ref": "{name}"}}') >= 1


def test_metadata_outlasts_kirschd(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("lasting")
    with kirschd_in(directory) as kirschd:
        (machine,) = kirschd.fleet("GET", "/machines").json["machines"]
        operation = {"op": "add", "path": f"/{machine['id']}/metadata/disk", "value": "ssd"}
        assert kirschd.fleet("PATCH", "/machines", [operation]).status == 204
    for path in sorted((directory / "units").iterdir()):
        path.unlink()
    (directory / "units").rmdir()
    with kirschd_in(directory) as kirschd:
        assert kirschd.fleet("GET", "/machines").json["machines"][0]["metadata"]["disk"] == "ssd"


@pytest.mark.slow
def test_a_store_that_is_away_is_503(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its file is taken from it: it cannot write, and says so in fleet's words."""
    with kirschd_in(tmp_path_factory.mktemp("away")) as kirschd:
        database = sqlite3.connect(kirschd.directory / ".kirsch/registry.db", isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        try:
            answer = put(kirschd, "late.service")
            assert answer.error == (503, "fleet server unable to communicate with etcd")
            assert kirschd.fleet("GET", "/units/late.service").status == 404
        finally:
            database.execute("ROLLBACK")
            database.close()
        assert put(kirschd, "late.service").status == 201
