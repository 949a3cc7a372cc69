"""The discovery document of /fleet/v1, from which generated clients take paths and fields.

The format is Google's (https://developers.google.com/discovery/v1/reference/apis): schemas are JSON Schema
of draft 3, resources have methods, and parameters say whether they stand in the path or in the query.
"""

from typing import Any

STATES = ["inactive", "loaded", "launched"]

Schema = dict[str, Any]


def document() -> Schema:
    """The whole document. `rootUrl` is left for the client to fill in: it knows how it got here."""
    path = "fleet/v1/"
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "fleet:v1",
        "name": "schema",
        "version": "v1",
        "title": "fleet API",
        "description": "Units, their states and machines, as fleet serves them; served by kirsch.",
        "documentationLink": "http://github.com/coreos/fleet",
        "protocol": "rest",
        "icons": {"x16": "", "x32": ""},
        "labels": [],
        "baseUrl": f"$ENDPOINT/{path}",
        "basePath": f"/{path}",
        "rootUrl": "$ENDPOINT/",
        "servicePath": path,
        "batchPath": "batch",
        "parameters": {},
        "auth": {},
        "schemas": _schemas(),
        "resources": _resources(),
    }


def _schemas() -> Schema:
    text = {"type": "string"}
    state = {"type": "string", "enum": STATES}
    return {
        schema["id"]: schema
        for schema in (
            _object(
                "Machine",
                id=text,
                primaryIP=text,
                metadata={"type": "object", "properties": {}, "additionalProperties": text},
            ),
            _page("MachinePage", "machines", "Machine"),
            _object("UnitOption", section=text, name=text, value=text),
            _object(
                "Unit",
                name=text,
                options=_list_of("UnitOption"),
                desiredState=state,
                currentState=state,
                machineID={"type": "string", "required": True},
            ),
            _page("UnitPage", "units", "Unit"),
            _object(
                "UnitState",
                name=text,
                hash=text,
                machineID=text,
                systemdLoadState=text,
                systemdActiveState=text,
                systemdSubState=text,
            ),
            _page("UnitStatePage", "states", "UnitState"),
        )
    }


def _resources() -> Schema:
    unit, states = "units/{unitName}", ("unitName", "machineID")
    return {
        "Machines": {
            "methods": {
                "List": _list("Machine", "machines", "MachinePage"),
            }
        },
        "Units": {
            "methods": {
                "List": _list("Unit", "units", "UnitPage"),
                "Get": _one("Unit.Get", "Retrieve one Unit.", "GET", unit, response="Unit"),
                "Delete": _one("Unit.Delete", "Destroy a Unit.", "DELETE", unit),
                "Set": _one("Unit.Set", "Create a Unit or change it.", "PUT", unit, request="Unit"),
            }
        },
        "UnitState": {
            "methods": {
                "Get": _one(
                    "UnitState.Get",
                    "Retrieve the UnitState of one Unit.",
                    "GET",
                    "state/{unitName}",
                    response="UnitState",
                ),
                "List": _list("UnitState", "state", "UnitStatePage", *states),
            }
        },
    }


def _object(schema: str, /, **properties: Schema) -> Schema:
    return {"id": schema, "type": "object", "properties": properties}


def _list_of(name: str) -> Schema:
    return {"type": "array", "items": {"$ref": name}}


def _page(name: str, values: str, kind: str) -> Schema:
    return _object(name, **{values: _list_of(kind), "nextPageToken": {"type": "string"}})


def _list(kind: str, path: str, page: str, *filters: str) -> Schema:
    """Describe the GET of a list, page by page."""
    query = {"type": "string", "location": "query"}
    return {
        "id": f"fleet.{kind}.List",
        "description": f"Retrieve a page of {kind} objects.",
        "httpMethod": "GET",
        "path": path,
        "parameters": dict.fromkeys(("nextPageToken", *filters), query),
        "response": {"$ref": page},
    }


def _one(
    name: str, description: str, method: str, path: str, *, request: str = "", response: str = ""
) -> Schema:
    """A method of one thing, which its path names."""
    found: Schema = {
        "id": f"fleet.{name}",
        "description": description,
        "httpMethod": method,
        "path": path,
        "parameters": {"unitName": {"type": "string", "location": "path", "required": True}},
        "parameterOrder": ["unitName"],
    }
    if request:
        found["request"] = {"$ref": request}
    if response:
        found["response"] = {"$ref": response}
    return found
