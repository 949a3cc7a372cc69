"""The OpenAPI 3.1 document of /kirsch/v1. A test holds it against what the API really answers."""

from importlib import metadata
from typing import Any

from kirsch.cluster.api.answers import MAX_UNIT_BODY
from kirsch.cluster.api.peers import HERE
from kirsch.cluster.api.schemas import STRINGS, YES_OR_NO, Schema, ref, schemas

PROBLEMS = {
    "400": "The request is wrong; the detail says where",
    "403": "Secrets are in it: it is answered at the machine's own Unix socket alone",
    "404": "There is no such thing",
    "408": "The body did not come",
    "409": "It cannot be granted as things are",
    "413": f"The body has more than {MAX_UNIT_BODY >> 20} MiB, or a unit file more than 1 MiB",
    "415": "The body is not application/json in UTF-8",
    "426": "This is a stream: ask for it by a WebSocket's handshake",
    "500": "kirschd failed; its log says how",
    "503": "The store is away, or kirschd about to end: try again",
}
# Any request can be met by these; a body can have more wrong with it.
ALWAYS = ("400", "404", "500", "503")
WITH_BODY = (*ALWAYS, "408", "409", "413", "415")


def document() -> dict[str, Any]:
    """The whole document, as JSON has it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kirsch",
            "version": metadata.version("kirsch"),
            "summary": "Unit files on this machine, and on a cluster of them",
            "description": "All that the command line does. Every error is problem+json (RFC 9457).",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": "/kirsch/v1"}],
        "paths": _paths(),
        "components": {"schemas": schemas(), "responses": _problems()},
    }


def _paths() -> dict[str, Any]:
    return {
        "/units": {
            "get": _operation(
                "listUnits",
                "All units, or those named",
                _ok("Units"),
                query=[_query("unit", "This unit; may be repeated", STRINGS)],
            ),
            "patch": _operation(
                "changeUnits",
                "Submit, change and destroy many units at once, all or nothing",
                _ok("Changes"),
                body="UnitChanges",
            ),
        },
        "/units/{name}": {
            "parameters": [_name("unit", "notes@1.container")],
            "get": _operation("getUnit", "One unit and its text", _ok("UnitWithText")),
            "put": _operation(
                "putUnit",
                "Submit a unit, change it, set its desired state",
                {**_ok("Change", "It was there"), **_ok("Change", "It is new", "201")},
                body="UnitChange",
            ),
            "delete": _operation(
                "destroyUnit",
                "Stop a unit and forget it",
                {"204": {"description": "It is destroyed"}},
                problems=(*ALWAYS, "409"),
            ),
        },
        "/units/{name}/environment": {
            "parameters": [_name("unit", "notes@1.container")],
            "get": _operation(
                "getEnvironment",
                "In what the processes of a unit that runs here run, secrets included",
                _ok("Context"),
                problems=(*ALWAYS, "403", "409"),
            ),
        },
        "/environment": {
            "get": _operation(
                "getOneOffEnvironment",
                "In what a one-off command would run here, secrets included",
                _ok("Context"),
                problems=(*ALWAYS, "403", "409"),
                query=[
                    _query("unit", "As a process of this unit", {"type": "string", "minLength": 1}),
                    _query("link", "With the variables of links, TARGET[:ALIAS]", STRINGS),
                ],
            ),
        },
        "/units/{name}/move": {
            "parameters": [_name("unit", "notes@1.container")],
            "post": _operation(
                "moveUnit",
                "Have a unit moved to another machine, a sticky one too",
                _ok("Moving", "It is on its way", "202"),
                body="MoveWanted",
            ),
        },
        "/verify": {
            "post": _operation(
                "verify",
                "Check a unit file and submit nothing; a bad one is 400",
                _ok("Verified"),
                body="UnitToVerify",
            ),
        },
        "/trial": {
            "post": _operation(
                "try",
                "Check unit files together against the machines that are there, and submit nothing",
                _ok("Tried"),
                body="UnitsToTry",
            ),
        },
        "/machines": {"get": _operation("listMachines", "The machines that are there", _ok("Machines"))},
        "/machines/{name}": {
            "parameters": [_name("machine", "n1")],
            "get": _operation(
                "getMachine",
                "One machine, by its id, the beginning of that, its host's name or its address",
                _ok("Machine"),
                problems=(*ALWAYS, "409"),
            ),
            "patch": _operation(
                "changeMachine",
                "Set a machine's metadata, cordon it, drain it; null takes a key away",
                {"204": {"description": "It is so"}},
                body="MachineChange",
            ),
            "delete": _operation(
                "forgetMachine",
                "Forget what a machine that left had in the flat network, by its whole id",
                {"204": {"description": "It is forgotten"}},
            ),
        },
        "/endpoints": {"get": _operation("listEndpoints", "Where units serve", _ok("Endpoints"))},
        "/secrets": {
            "get": _operation("listSecrets", "Names of secrets, never their values", _ok("Secrets")),
        },
        "/secrets/{name}": {
            "parameters": [_name("secret", "notes-database")],
            "put": _operation(
                "putSecret",
                "Set a secret",
                {**_ok("SecretChange", "It was there"), **_ok("SecretChange", "It is new", "201")},
                body="SecretValue",
            ),
            "delete": _operation(
                "removeSecret",
                "Forget a secret",
                {"204": {"description": "It is forgotten"}},
                problems=(*ALWAYS, "409"),
                query=[_query("force", "Also one that units use", YES_OR_NO)],
            ),
        },
        "/events": {
            "get": _operation(
                "followUnits",
                "A stream: all units' lines, then each that changes",
                _stream("UnitNews"),
                problems=(*ALWAYS, "426"),
                query=[_query("unit", "Of this unit; may be repeated", STRINGS)],
            ),
        },
        "/journal": {
            "get": _operation(
                "readJournal",
                "What units wrote, on whichever machines; as a stream it goes on",
                {**_ok("Lines", "The last lines, of all units together"), **_stream("Line")},
                query=[
                    _query("unit", "Of this unit; may be repeated", STRINGS),
                    _query("lines", "How many at most", {"type": "integer", "minimum": 0, "maximum": 10000}),
                    _query(HERE, "Of the machine asked alone", YES_OR_NO),
                ],
            ),
        },
        "/applications/{name}": {
            "parameters": [_name("application", "notes")],
            "get": _operation(
                "getApplication",
                "The units that came with an application",
                _ok("Applied"),
            ),
            "put": _operation(
                "putApplication",
                "Submit an application's units, destroy those it has no more, start those that are to run",
                _ok("Started"),
                body="Application",
                query=[_query("check", "Do nothing, but refuse what would be refused", YES_OR_NO)],
            ),
        },
        "/daemon": {"get": _operation("getDaemon", "This kirschd", _ok("Daemon"))},
        "/down": {
            "post": _operation(
                "down",
                "Stop all units and end this kirschd",
                _ok("Down", "It is on its way", "202"),
                problems=(*ALWAYS, "409"),
            ),
        },
        "/openapi.json": {
            "get": _operation(
                "getDocument",
                "This document",
                {
                    "200": {
                        "description": "OpenAPI 3.1",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    }
                },
            ),
        },
    }


def _problems() -> dict[str, Any]:
    content = {"application/problem+json": {"schema": ref("Problem")}}
    return {
        f"Problem{status}": {"description": what, "content": content} for status, what in PROBLEMS.items()
    }


def _operation(
    name: str,
    summary: str,
    responses: dict[str, Any],
    *,
    body: str | None = None,
    problems: tuple[str, ...] | None = None,
    query: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    statuses = problems or (WITH_BODY if body else ALWAYS)
    told = {status: {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses | told}
    if query:
        operation["parameters"] = query
    if body:
        operation["requestBody"] = {"required": True, "content": _content(body)}
    return operation


def _ok(schema: str, what: str = "It is so", status: str = "200") -> dict[str, Any]:
    return {status: {"description": what, "content": _content(schema)}}


def _stream(schema: str) -> dict[str, Any]:
    """OpenAPI has no word for what follows a 101."""
    return {"101": {"description": f"To a WebSocket's handshake (RFC 6455): each message is a {schema}"}}


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": ref(schema)}}


def _name(what: str, example: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": f"The {what}'s name",
        "schema": schema,
        "example": example,
    }


def _query(name: str, what: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": what, "schema": schema}
