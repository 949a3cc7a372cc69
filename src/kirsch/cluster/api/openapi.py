"""OpenAPI 3.1 document of /kirsch/v1, from a table of operations. A test holds it against the API's
answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from kirsch.cluster.api.answers import MAX_UNIT_BODY
from kirsch.cluster.api.peers import HERE
from kirsch.cluster.api.schemas import SCHEMAS, STRINGS, YES_OR_NO, Schema, ref

PROBLEMS = {
    "400": "The request is wrong; the detail says where",
    "403": "The certificate's role does not allow it, or the answer holds secrets",
    "404": "There is no such thing",
    "408": "The body did not arrive in time",
    "409": "The request conflicts with the present state",
    "413": f"The body has more than {MAX_UNIT_BODY >> 20} MiB, or a unit file more than 1 MiB",
    "415": "The body is not application/json in UTF-8",
    "426": "This is a stream: ask for it with a WebSocket handshake",
    "500": "kirschd failed; its log says how",
    "503": "The store is away, or kirschd is about to end: try again",
}
# Problems of any request; a body can have more wrong with it.
ALWAYS = ("400", "404", "500", "503")
WITH_BODY = (*ALWAYS, "408", "409", "413", "415")

Responses = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table: a request, and its answers beside the problems."""

    request: str  # method and path
    id: str
    summary: str
    responses: Responses
    body: str = ""  # name of a schema
    problems: tuple[str, ...] = ()  # by default those of any request, or of any body
    query: tuple[Schema, ...] = ()


def _content(schema: str) -> Schema:
    return {"application/json": {"schema": ref(schema)}}


def _answer(schema: str, description: str = "Success", status: str = "200") -> Responses:
    return {status: {"description": description, "content": _content(schema)}}


def _changed(schema: str) -> Responses:
    """Answers of a PUT: of something that was there, or that is new."""
    return _answer(schema, "Changed") | _answer(schema, "Created", "201")


def _nothing(description: str) -> Responses:
    return {"204": {"description": description}}


def _stream(schema: str) -> Responses:
    # OpenAPI has no word for what follows a 101.
    return {"101": {"description": f"To a WebSocket handshake (RFC 6455): each message is a {schema}"}}


def _query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_OF_UNITS = _query("unit", "Only this unit; may be repeated", STRINGS)
_LINES: Schema = {"type": "integer", "minimum": 0, "maximum": 10000}
_TIME: Schema = {"type": "number", "minimum": 0, "maximum": 1e11}
_DOCUMENT = {"application/json": {"schema": {"type": "object"}}}

OPERATIONS = (
    Operation(
        "get /units", "listUnits", "List all units, or those named", _answer("Units"), query=(_OF_UNITS,)
    ),
    Operation(
        "patch /units",
        "changeUnits",
        "Submit, change and destroy many units at once, all or nothing",
        _answer("Changes"),
        body="UnitChanges",
    ),
    Operation("get /units/{name}", "getUnit", "Show a unit and its text", _answer("UnitWithText")),
    Operation(
        "put /units/{name}",
        "putUnit",
        "Submit a unit, change it, set its desired state",
        _changed("Change"),
        body="UnitChange",
    ),
    Operation(
        "delete /units/{name}",
        "destroyUnit",
        "Stop a unit and forget it",
        _nothing("Destroyed"),
        problems=(*ALWAYS, "409"),
    ),
    Operation(
        "get /units/{name}/environment",
        "getEnvironment",
        "Show the context of a unit's processes that run here, secrets included",
        _answer("Context"),
        problems=(*ALWAYS, "403", "409"),
    ),
    Operation(
        "get /environment",
        "getOneOffEnvironment",
        "Show the context of a one-off command here, secrets included",
        _answer("Context"),
        problems=(*ALWAYS, "403", "409"),
        query=(
            _query("unit", "As a process of this unit", {"type": "string", "minLength": 1}),
            _query("link", "With the variables of links, TARGET[:ALIAS]", STRINGS),
        ),
    ),
    Operation(
        "post /units/{name}/move",
        "moveUnit",
        "Move a unit to another machine, a sticky one too",
        _answer("Moving", "The move has begun", "202"),
        body="MoveWanted",
    ),
    Operation(
        "get /rebalance",
        "planRebalance",
        "List the moves that unmet Spread= options ask for, in their order",
        _answer("Rebalance"),
    ),
    Operation(
        "post /rebalance",
        "rebalance",
        "Make the first of these moves, once no unit is moving",
        _answer("Rebalance", "The move has begun; none if there is none to make", "202"),
    ),
    Operation(
        "post /verify",
        "verify",
        "Check a unit file and submit nothing; a bad one is 400",
        _answer("Verified"),
        body="UnitToVerify",
    ),
    Operation(
        "post /trial",
        "try",
        "Check unit files together against the present machines, and submit nothing",
        _answer("Tried"),
        body="UnitsToTry",
    ),
    Operation("get /machines", "listMachines", "List the machines that are present", _answer("Machines")),
    Operation(
        "get /machines/{name}",
        "getMachine",
        "Show a machine by its id, the beginning of its id, its host name or its address",
        _answer("Machine"),
        problems=(*ALWAYS, "409"),
    ),
    Operation(
        "patch /machines/{name}",
        "changeMachine",
        "Set a machine's metadata, cordon it, drain it; null removes a key",
        _nothing("Changed"),
        body="MachineChange",
    ),
    Operation(
        "delete /machines/{name}",
        "forgetMachine",
        "Forget the number and addresses of a machine that left, by its whole id",
        _nothing("Forgotten"),
        problems=(*ALWAYS, "409"),
    ),
    Operation(
        "get /endpoints",
        "listEndpoints",
        "List the endpoints of units",
        _answer("Endpoints"),
        query=(
            _query("left", "Once no balancer here sends to this unit, or after 2 s", {"type": "string"}),
            _query("on", "Id of that unit's machine", {"type": "string"}),
            _query(HERE, "Of the machine that is asked; it answers so in any case", YES_OR_NO),
        ),
    ),
    Operation(
        "get /secrets", "listSecrets", "List the names of secrets, never their values", _answer("Secrets")
    ),
    Operation(
        "post /secrets",
        "sealSecrets",
        "Seal all secrets with the key that seals on the machine that is asked",
        _answer("Sealed"),
        body="Nothing",
    ),
    Operation(
        "put /secrets/{name}", "putSecret", "Set a secret", _changed("SecretChange"), body="SecretValue"
    ),
    Operation(
        "post /secrets/{name}",
        "settleSecret",
        "End the time of a login: the owner has the password too",
        _nothing("Ended"),
        body="SecretSettled",
    ),
    Operation(
        "delete /secrets/{name}",
        "removeSecret",
        "Remove a secret",
        _nothing("Removed"),
        problems=(*ALWAYS, "409"),
        query=(_query("force", "Also one that units use", YES_OR_NO),),
    ),
    Operation(
        "get /certificates",
        "listCertificates",
        "List the certificates of users and machines",
        _answer("Certificates"),
    ),
    Operation(
        "post /certificates",
        "renewCertificate",
        "Issue a new certificate for the machine that asks with a valid one",
        _answer("RenewedCertificate"),
        body="Nothing",
    ),
    Operation(
        "put /certificates/{serial}",
        "putCertificate",
        "Have the cluster know a certificate, in place of those that its user had",
        _answer("Certificate"),
        body="CertificateIssued",
    ),
    Operation(
        "delete /certificates/{serial}", "revokeCertificate", "Revoke a certificate", _nothing("Revoked")
    ),
    Operation(
        "get /audit",
        "readAudit",
        "List the changes that people asked for, and what was refused",
        _answer("Audit"),
        query=(
            _query("since", "Seconds since the epoch", _TIME),
            _query("entries", "Number of entries at most", _LINES),
            _query(HERE, "Only of the machine that is asked", YES_OR_NO),
        ),
    ),
    Operation("get /backup", "getBackup", "Show what people put into the registry", _answer("Backup")),
    Operation(
        "put /backup",
        "restoreBackup",
        "Write entries of a backup that are not there yet",
        _answer("Written"),
        body="BackupPart",
    ),
    Operation(
        "get /events",
        "followUnits",
        "Stream all units' lines, then each that changes",
        _stream("UnitNews"),
        problems=(*ALWAYS, "426"),
        query=(
            _OF_UNITS,
            _query("figures", "Also the figures of each machine, every 5 s", YES_OR_NO),
            _query(HERE, "Nothing but the figures of the machine that is asked", YES_OR_NO),
        ),
    ),
    Operation(
        "get /journal",
        "readJournal",
        "Read what units wrote, on all machines; a stream goes on",
        _answer("Lines", "The last lines, of all units together") | _stream("Line"),
        query=(
            _OF_UNITS,
            _query("lines", "Number of lines at most", _LINES),
            _query(HERE, "Only of the machine that is asked", YES_OR_NO),
        ),
    ),
    Operation(
        "get /figures",
        "readFigures",
        "Read what units, machines and backends of balancers use and do, of the last hour",
        _answer("Figures"),
        query=(
            _OF_UNITS,
            _query("machine", "Only this machine, by its id; may be repeated", STRINGS),
            _query(
                "since", "Samples after this time, in seconds since the epoch; the last one without", _TIME
            ),
            _query(HERE, "Only of the machine that is asked", YES_OR_NO),
        ),
    ),
    Operation(
        "get /applications/{name}", "getApplication", "List the units of an application", _answer("Applied")
    ),
    Operation(
        "put /applications/{name}",
        "putApplication",
        "Submit an application's units, destroy those it no longer has, start those that are to run",
        _answer("Started"),
        body="Application",
        query=(_query("check", "Change nothing; refuse what would be refused", YES_OR_NO),),
    ),
    Operation("get /store", "getStore", "Show the health of the store's members", _answer("Store")),
    Operation(
        "get /releases",
        "listReleases",
        "List releases of applications, the newest first",
        _answer("Releases"),
        query=(_query("application", "Only of this application", {"type": "string"}),),
    ),
    Operation(
        "post /releases/{name}",
        "bringBack",
        "Open a release that brings an earlier one back",
        _answer("ReleaseOpened", "The release is open", "202"),
        body="ReleaseWanted",
    ),
    Operation(
        "get /releases/{name}/{number}",
        "getRelease",
        "Show a release, with the texts it changes",
        _answer("ReleaseWithTexts"),
    ),
    Operation(
        "post /releases/{name}/{number}",
        "steerRelease",
        "Pause, resume, promote or abort a release",
        _answer("ReleaseOpened", "Changed", "202"),
        body="ReleaseOrder",
    ),
    Operation("get /daemon", "getDaemon", "Show this kirschd", _answer("Daemon")),
    Operation(
        "post /down",
        "down",
        "Stop all units and end this kirschd",
        _answer("Down", "The stop has begun", "202"),
        problems=(*ALWAYS, "409"),
    ),
    Operation(
        "get /openapi.json",
        "getDocument",
        "Show this document",
        {"200": {"description": "OpenAPI 3.1", "content": _DOCUMENT}},
    ),
)
# {name} in a path: what it names, and an example.
_NAMED = {
    "units": ("unit", "notes@1.container"),
    "machines": ("machine", "n1"),
    "secrets": ("secret", "notes-database"),
    "applications": ("application", "notes"),
    "releases": ("application", "notes"),
}
_NUMBER: Schema = {
    "name": "number",
    "in": "path",
    "required": True,
    "description": "The release's number",
    "schema": {"type": "integer", "minimum": 1},
    "example": 1,
}

_SERIAL: Schema = {
    "name": "serial",
    "in": "path",
    "required": True,
    "description": "The certificate's serial number, in hexadecimal",
    "schema": {"type": "string", "pattern": "^[0-9A-F]{1,40}$"},
    "example": "2F",
}


def document() -> dict[str, Any]:
    """Return the whole document, ready for JSON."""
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
        "components": {"schemas": dict(SCHEMAS), "responses": _problems()},
    }


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        method, path = operation.request.split(" ")
        names = [_name(path)] if "{name}" in path else []
        names += [_NUMBER] if "{number}" in path else []
        names += [_SERIAL] if "{serial}" in path else []
        item = paths.setdefault(path, {"parameters": names} if names else {})
        item[method] = _item(operation)
    return paths


def _item(operation: Operation) -> dict[str, Any]:
    statuses = operation.problems or (WITH_BODY if operation.body else ALWAYS)
    problems = {status: {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}
    item: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": operation.responses | problems,
    }
    if operation.query:
        item["parameters"] = list(operation.query)
    if operation.body:
        item["requestBody"] = {"required": True, "content": _content(operation.body)}
    return item


def _name(path: str) -> Mapping[str, Any]:
    what, example = _NAMED[path.split("/")[1]]
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": f"The {what}'s name",
        "schema": {"type": "string", "minLength": 1},
        "example": example,
    }


def _problems() -> dict[str, Any]:
    content = {"application/problem+json": {"schema": ref("Problem")}}
    return {
        f"Problem{status}": {"description": what, "content": content} for status, what in PROBLEMS.items()
    }
