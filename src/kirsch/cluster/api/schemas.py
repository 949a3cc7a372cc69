"""The schemas of what /kirsch/v1 takes and answers (JSON Schema 2020-12, as OpenAPI 3.1 has it)."""

from collections.abc import Mapping
from types import GenericAlias
from typing import Any, get_args, get_type_hints

from kirsch.cluster.engine.status import UnitStatus
from kirsch.cluster.model import DESIRED_STATES
from kirsch.cluster.node.settings import METADATA_KEY
from kirsch.cluster.secrets import MAX_SIZE

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
YES_OR_NO: Schema = {"type": "string", "enum": ["yes", "no"]}
STRINGS: Schema = {"type": "array", "items": STRING}
TEXTS: Schema = {"type": "object", "additionalProperties": STRING}
SCALARS: Mapping[Any, Schema] = {str: STRING, bool: BOOLEAN, int: INTEGER, float: NUMBER}

UNIT_FILE = "[Service]\nExecStart=sleep 1000\n"


def schemas() -> dict[str, Schema]:
    """Each by its name below #/components/schemas."""
    desired: Schema = {"type": "string", "enum": list(DESIRED_STATES)}
    port = _object({"number": INTEGER, "protocol": STRING, "name": {"type": ["string", "null"]}})
    optional: Schema = {"type": ["string", "null"]}
    wanted: dict[str, Schema] = {
        "text": {**STRING, "description": "the unit file; left out, the one that is there stays"},
        "desiredState": desired,
        "file": {**STRING, "description": "how errors are to name the file"},
        "again": {**BOOLEAN, "description": "start it once more, also if it runs"},
    }
    return {
        "Unit": _object({name: _schema(hint) for name, hint in get_type_hints(UnitStatus).items()}),
        "Gone": _object({"name": STRING, "gone": {"const": True}}),
        "Left": _object({"name": STRING, "machine": STRING}),
        "Units": _object({"units": _list(ref("Unit"))}),
        "UnitNews": _object(
            {"units": _list({"anyOf": [ref("Unit"), ref("Gone")]}), "left": _list(ref("Left"))}
        ),
        "UnitWithText": _object({"name": STRING, "text": STRING, "on": _list(ref("Unit"))}),
        "UnitChange": _object(
            wanted,
            required=(),
            examples=[{"text": UNIT_FILE, "desiredState": "loaded"}],
        ),
        "Change": _object({"name": STRING, "created": BOOLEAN, "warnings": STRINGS}),
        "UnitChanges": _object(
            {
                "change": _list(_object({"name": STRING, **wanted}, required=("name",))),
                "destroy": STRINGS,
            },
            required=(),
            examples=[{"change": [{"name": "a.service", "text": UNIT_FILE}]}],
        ),
        "Changes": _object({"created": STRINGS, "warnings": STRINGS}),
        "UnitToVerify": _object(
            {"name": STRING, "text": STRING, "file": STRING},
            required=("name", "text"),
            examples=[{"name": "a.service", "text": UNIT_FILE}],
        ),
        "Verified": _object({"name": STRING, "warnings": STRINGS}),
        "UnitsToTry": _object({"units": TEXTS}, required=(), examples=[{"units": {"a.service": UNIT_FILE}}]),
        "Tried": _object({"units": _list(_object({"name": STRING, "error": STRING, "warnings": STRINGS}))}),
        "Context": _object(
            {
                "environment": TEXTS,
                "directory": optional,
                "user": optional,
                "group": optional,
                "umask": {"type": ["integer", "null"]},
                "nice": INTEGER,
                "limits": {
                    "type": "object",
                    "description": "soft and hard limits by their names in setrlimit(2), -1 for none",
                    "additionalProperties": {**_list(INTEGER), "minItems": 2, "maxItems": 2},
                },
                "secrets": {**STRINGS, "description": "the variables that nobody else is to see"},
                "hosts": {**TEXTS, "description": "names that links give, with their addresses"},
                "dns": {**STRING, "description": "who is asked for other names, empty for nobody else"},
                "container": {**STRINGS, "description": "podman's arguments for another like the unit's"},
            }
        ),
        "Machine": _object(
            {
                "id": STRING,
                "address": STRING,
                "metadata": TEXTS,
                "runs": {**STRINGS, "description": "the types of units that it can run"},
                "problems": {**STRINGS, "description": "what it lacks for the flat network and its names"},
                "cordoned": BOOLEAN,
                "drained": BOOLEAN,
                "leads": {**BOOLEAN, "description": "its engine is the one that decides"},
            }
        ),
        "Machines": _object({"machines": _list(ref("Machine"))}),
        "MachineChange": _object(
            {
                "metadata": {
                    "type": "object",
                    "propertyNames": {"pattern": f"^{METADATA_KEY.pattern}$"},
                    "additionalProperties": {"type": ["string", "null"], "minLength": 1},
                },
                "cordoned": {**BOOLEAN, "description": "it gets no more units"},
                "drained": {**BOOLEAN, "description": "cordoned, and its units move away"},
            },
            required=(),
            examples=[{"metadata": {"zone": "a"}}, {"drained": False}],
        ),
        "MoveWanted": _object(
            {"machine": {**STRING, "description": "where to; left out, to any other"}},
            required=(),
            examples=[{"machine": "n2"}],
        ),
        "Moving": _object({"name": STRING, "from": STRING, "to": STRING}),
        "Endpoints": _object(
            {
                "endpoints": _list(
                    _object(
                        {
                            "service": STRING,
                            "unit": STRING,
                            "slot": STRING,
                            "address": STRING,
                            "ports": _list(port),
                            "ready": BOOLEAN,
                        }
                    )
                )
            }
        ),
        "Secrets": _object(
            {
                "secrets": _list(
                    _object(
                        {
                            "name": STRING,
                            "set": {
                                "type": ["number", "null"],
                                "description": "seconds since the epoch; null: units wait for it",
                            },
                            "units": STRINGS,
                        }
                    )
                )
            }
        ),
        "SecretValue": _object(
            {
                "value": {**STRING, "description": f"in base64, at most {MAX_SIZE >> 10} KiB without that"},
                "replace": {**BOOLEAN, "description": "false: 409 if it is there"},
            },
            required=("value",),
            examples=[{"value": "aHVzaA=="}],
        ),
        "SecretChange": _object({"name": STRING, "created": BOOLEAN, "units": STRINGS}),
        "Line": _object(
            {"unit": STRING, "machine": STRING, "time": NUMBER, "stream": STRING, "text": STRING}
        ),
        "Lines": _object({"lines": _list(ref("Line"))}),
        "Application": _object(
            {"units": TEXTS, "files": TEXTS, "start": STRINGS},
            required=("units", "start"),
            examples=[{"units": {"a.service": UNIT_FILE}, "start": ["a.service"]}],
        ),
        "Applied": _object({"name": STRING, "units": STRINGS}),
        "Started": _object({"start": STRINGS, "warnings": STRINGS}),
        "Daemon": _object({"pid": INTEGER, "machine": STRING, "runtime": STRING, "version": STRING}),
        "Down": _object({"down": BOOLEAN}),
        "Problem": _object({"type": STRING, "title": STRING, "status": INTEGER, "detail": STRING}),
    }


def _object(properties: dict[str, Schema], required: tuple[str, ...] | None = None, **more: Any) -> Schema:
    """An object with these properties and no others, all there unless `required` names some."""
    names = list(properties if required is None else required)
    schema = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return schema | ({"required": names} if names else {})


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """What stands for the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(hint: Any) -> Schema:
    """Of a field of a dataclass: a scalar, or a tuple of them of any length."""
    return _list(SCALARS[get_args(hint)[0]]) if isinstance(hint, GenericAlias) else SCALARS[hint]
