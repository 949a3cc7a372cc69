"""Schemas of the bodies and answers of /kirsch/v1 (JSON Schema 2020-12, as OpenAPI 3.1 has it)."""

from collections.abc import Mapping
from types import GenericAlias
from typing import Any, get_args, get_type_hints

from kirsch.cluster.engine.status import UnitStatus
from kirsch.cluster.model import DESIRED_STATES
from kirsch.cluster.model.certificates import MACHINE, PEOPLE
from kirsch.cluster.model.release import ReleaseState
from kirsch.cluster.node.audit import AuditEntry
from kirsch.cluster.node.releases import VERBS
from kirsch.cluster.node.settings import METADATA_KEY
from kirsch.cluster.secrets import MAX_SIZE
from kirsch.unit.release import POLICY_OPTIONS

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


def _object(properties: dict[str, Schema], required: tuple[str, ...] | None = None, **more: Any) -> Schema:
    """Return the schema of an object with exactly these properties; all are required unless `required` is
    given."""
    names = list(properties if required is None else required)
    schema = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return schema | ({"required": names} if names else {})


def _read(properties: dict[str, Schema]) -> Schema:
    """Return the schema of an answer that may be old: with `asOf` while the store is away."""
    when = {**STRING, "description": "when the store answered last (RFC 3339), while it is away"}
    return _object({**properties, "asOf": when}, required=tuple(properties))


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """Return a reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(hint: Any) -> Schema:
    """Return the schema of a dataclass's field: a scalar, or a tuple of scalars of any length."""
    return _list(SCALARS[get_args(hint)[0]]) if isinstance(hint, GenericAlias) else SCALARS[hint]


_NUMBERS: Schema = _list({"type": ["number", "null"]})
_USAGE: dict[str, Schema] = {
    "cpu": {**_NUMBERS, "description": "cores used"},
    "memory": {**_NUMBERS, "description": "bytes used"},
    "read": {**_NUMBERS, "description": "bytes a second from disks"},
    "written": {**_NUMBERS, "description": "bytes a second to disks"},
    "processes": _NUMBERS,
}
_DESIRED: Schema = {"type": "string", "enum": list(DESIRED_STATES)}
_PORT: Schema = _object({"number": INTEGER, "protocol": STRING, "name": {"type": ["string", "null"]}})
_OPTIONAL: Schema = {"type": ["string", "null"]}
_UNIT_CHANGE: dict[str, Schema] = {
    "text": {**STRING, "description": "the unit file; if left out, the present one stays"},
    "desiredState": _DESIRED,
    "file": {**STRING, "description": "name of the file in error messages"},
    "again": {**BOOLEAN, "description": "start it again, even if it runs"},
}
# Additions to any change: for the history, and how it is carried out.
_NOTE: dict[str, Schema] = {
    "who": {**STRING, "description": "person who asks, for the history"},
    "message": {**STRING, "description": "reason, for the history"},
    "release": {
        **_object({name: {"type": ["string", "number"]} for name in POLICY_OPTIONS.values()}, required=()),
        "description": "release policy, as [release] of kirsch.toml",
    },
    "now": {**BOOLEAN, "description": "take the place of a release that is under way"},
}
_CERTIFICATE: dict[str, Schema] = {
    "name": STRING,
    "role": {"type": "string", "enum": [*PEOPLE, MACHINE]},
    "until": {
        **NUMBER,
        "minimum": 0,
        "maximum": 1e11,
        "description": "end of its validity, in seconds since the epoch",
    },
    "machine": {**STRING, "description": "id of the machine that it is for"},
    "revoked": BOOLEAN,
}
# Every schema by its name below #/components/schemas.
SCHEMAS: Mapping[str, Schema] = {
    "Release": _object(
        {
            "application": STRING,
            "number": INTEGER,
            "state": {"type": "string", "enum": list(get_args(ReleaseState))},
            "who": STRING,
            "message": STRING,
            "created": {**NUMBER, "description": "seconds since the epoch"},
            "ended": {**NUMBER, "description": "seconds since the epoch; 0: it is not over"},
            "units": STRINGS,
            "start": STRINGS,
            "gone": {**STRINGS, "description": "units that are destroyed at the end"},
            "replaced": {**STRINGS, "description": "instances that have the new text, or are to get it"},
            "commands": {**STRINGS, "description": "units that run once before the first instance"},
            "secrets": {
                "type": "object",
                "additionalProperties": NUMBER,
                "description": "when each secret of its units had been set (Unix time); 0: it was not",
            },
            "promoted": BOOLEAN,
            "failure": {"anyOf": [{"type": "null"}, ref("Failure")]},
        }
    ),
    "Failure": _object(
        {"unit": STRING, "machine": STRING, "reason": STRING, "began": NUMBER, "ended": NUMBER}
    ),
    "Releases": _object({"releases": _list(ref("Release"))}),
    "ReleaseWithTexts": _object(
        {
            "release": ref("Release"),
            "images": {**STRINGS, "description": "images of its containers"},
            "changes": _list(_object({"unit": STRING, "before": _OPTIONAL, "after": _OPTIONAL})),
            "gone": STRINGS,
        }
    ),
    "ReleaseOpened": _object({"release": ref("Release")}),
    "ReleaseWanted": _object(
        {"number": {**INTEGER, "description": "the last good one but one if left out"}, **_NOTE},
        required=(),
        examples=[{"number": 1}],
    ),
    "ReleaseOrder": _object(
        {"do": {"type": "string", "enum": list(VERBS)}}, required=("do",), examples=[{"do": "pause"}]
    ),
    "Unit": _object({name: _schema(hint) for name, hint in get_type_hints(UnitStatus).items()}),
    "Gone": _object({"name": STRING, "gone": {"const": True}}),
    "Left": _object({"name": STRING, "machine": STRING}),
    "Units": _read({"units": _list(ref("Unit"))}),
    "UnitNews": _object(
        {
            "units": _list({"anyOf": [ref("Unit"), ref("Gone")]}),
            "left": _list(ref("Left")),
            "releases": _list(ref("Release")),
            "machines": {**STRINGS, "description": "ids of all that are there, when one has changed"},
            "figures": {
                **ref("MachineFigures"),
                "description": "one sample of one machine, where figures=yes was asked for",
            },
        },
        required=("units", "left", "releases"),
    ),
    "UnitWithText": _read({"name": STRING, "text": STRING, "on": _list(ref("Unit"))}),
    "UnitChange": _object(
        _UNIT_CHANGE,
        required=(),
        examples=[{"text": UNIT_FILE, "desiredState": "loaded"}],
    ),
    "Change": _object(
        {"name": STRING, "created": BOOLEAN, "warnings": STRINGS, "releases": _list(ref("Release"))}
    ),
    "UnitChanges": _object(
        {
            "change": _list(_object({"name": STRING, **_UNIT_CHANGE}, required=("name",))),
            "destroy": STRINGS,
            "scale": {
                "type": "object",
                "description": "number of instances by template; alone, without change and destroy",
                "additionalProperties": {**INTEGER, "minimum": 0, "maximum": 9999},
            },
            **_NOTE,
        },
        required=(),
        examples=[{"change": [{"name": "a.service", "text": UNIT_FILE}]}],
    ),
    "Changes": _object({"created": STRINGS, "warnings": STRINGS, "releases": _list(ref("Release"))}),
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
            "directory": _OPTIONAL,
            "user": _OPTIONAL,
            "group": _OPTIONAL,
            "umask": {"type": ["integer", "null"]},
            "nice": INTEGER,
            "limits": {
                "type": "object",
                "description": "soft and hard limits by their names in setrlimit(2), -1 for none",
                "additionalProperties": {**_list(INTEGER), "minItems": 2, "maxItems": 2},
            },
            "secrets": {**STRINGS, "description": "names of the variables that are secret"},
            "hosts": {**TEXTS, "description": "names that links give, with their addresses"},
            "dns": {
                **STRING,
                "description": "server for other names; empty for the machine's own",
            },
            "container": {**STRINGS, "description": "podman's arguments for a container like the unit's"},
        }
    ),
    "Machine": _read(
        {
            "id": STRING,
            "address": STRING,
            "metadata": TEXTS,
            "runs": {**STRINGS, "description": "unit types that the machine can run"},
            "problems": {
                **STRINGS,
                "description": "what keeps it from the flat network and its names",
            },
            "cordoned": BOOLEAN,
            "drained": BOOLEAN,
            "leads": {**BOOLEAN, "description": "its engine is the elected leader"},
            "cpu": {**NUMBER, "description": "cores"},
            "memory": {**INTEGER, "description": "bytes"},
            "reservedCpu": {**NUMBER, "description": "cores that its units reserve"},
            "reservedMemory": {**INTEGER, "description": "bytes that its units reserve"},
            "number": {**INTEGER, "description": "its number in the flat network, 0 for none"},
            "meshed": {**BOOLEAN, "description": "it is in the flat network"},
            "certificateEnds": {"type": ["number", "null"], "description": "seconds since the epoch"},
        }
    ),
    "Machines": _read({"machines": _list(ref("Machine"))}),
    "MachineChange": _object(
        {
            "metadata": {
                "type": "object",
                "propertyNames": {"pattern": f"^{METADATA_KEY.pattern}$"},
                "additionalProperties": {"type": ["string", "null"], "minLength": 1},
            },
            "cordoned": {**BOOLEAN, "description": "the engine puts no more units on it"},
            "drained": {**BOOLEAN, "description": "cordoned, and its units move away"},
        },
        required=(),
        examples=[{"metadata": {"zone": "a"}}, {"drained": False}],
    ),
    "MoveWanted": _object(
        {"machine": {**STRING, "description": "target machine; any other if left out"}},
        required=(),
        examples=[{"machine": "n2"}],
    ),
    "Rebalance": _object(
        {
            "moves": _list(_object({"unit": STRING, "from": STRING, "to": STRING, "reason": STRING})),
            "stays": {**TEXTS, "description": "for each service that stays as it is why"},
        }
    ),
    "Moving": _object({"name": STRING, "from": STRING, "to": STRING}),
    "Endpoints": _read(
        {
            "endpoints": _list(
                _object(
                    {
                        "service": STRING,
                        "unit": STRING,
                        "slot": STRING,
                        "address": STRING,
                        "ports": _list(_PORT),
                        "ready": BOOLEAN,
                        # Of a unit with HealthRole= only.
                        "role": STRING,
                        "leads": BOOLEAN,
                    },
                    required=("service", "unit", "slot", "address", "ports", "ready"),
                )
            )
        }
    ),
    "Secrets": _read(
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
                        "login": {"anyOf": [{"type": "null"}, ref("SecretLogin")]},
                    }
                )
            )
        }
    ),
    "SecretLogin": {
        **_object({"owner": STRING, "role": STRING}),
        "description": "role that has the new password of a database while its owner has the old one",
    },
    "SecretSettled": _object({"login": {"type": "null"}}),
    "SecretValue": _object(
        {
            "value": {**STRING, "description": f"in base64, at most {MAX_SIZE >> 10} KiB without that"},
            "replace": {**BOOLEAN, "description": "false: 409 if it is there"},
            "login": ref("SecretLogin"),
        },
        required=("value",),
        examples=[{"value": "aHVzaA=="}],
    ),
    "SecretChange": _object({"name": STRING, "created": BOOLEAN, "units": STRINGS}),
    "Sealed": _object({"sealed": {**INTEGER, "description": "how many another key had sealed"}}),
    "CertificateIssued": _object(
        _CERTIFICATE,
        required=("name", "role", "until"),
        examples=[{"name": "ann", "role": "view", "until": 4e9}],
    ),
    "Certificate": _object({"serial": STRING, **_CERTIFICATE}),
    "RenewedCertificate": _object(
        {
            "certificate": {**STRING, "description": "PEM"},
            "authority": {**STRING, "description": "the authority's key, PEM, for a machine that keeps etcd"},
        },
        required=("certificate",),
    ),
    "Nothing": {"type": "object", "examples": [{}]},
    "Certificates": _read({"certificates": _list(ref("Certificate"))}),
    "Audit": _object(
        {
            "entries": _list(
                _object({name: _schema(hint) for name, hint in get_type_hints(AuditEntry).items()})
            ),
            "missing": {**STRINGS, "description": "machines that do not answer, with the reason"},
        }
    ),
    "Backup": _object({"made": NUMBER, "machines": TEXTS, "entries": TEXTS}),
    "BackupPart": _object({"entries": TEXTS}, examples=[{"entries": {}}]),
    "Written": _object({"written": INTEGER}),
    "Line": _object({"unit": STRING, "machine": STRING, "time": NUMBER, "stream": STRING, "text": STRING}),
    "Lines": _object({"lines": _list(ref("Line"))}),
    "Figures": _object(
        {
            "machines": _list(ref("MachineFigures")),
            "missing": {**STRINGS, "description": "machines that do not answer, with the reason"},
        }
    ),
    "MachineFigures": _object(
        {
            "machine": STRING,
            "interval": {**NUMBER, "description": "seconds between two samples"},
            "times": {
                **_list(NUMBER),
                "description": "of the samples, in seconds since the epoch; each list of numbers has one for "
                "each of them, or null",
            },
            "cores": NUMBER,
            "memorySize": {**INTEGER, "description": "in bytes"},
            "diskSize": {**INTEGER, "description": "of the disk with kirschd's state, in bytes"},
            "diskFree": INTEGER,
            **_USAGE,
            "units": _list(
                _object(
                    {
                        "name": STRING,
                        **_USAGE,
                        "peak": {"type": ["integer", "null"], "description": "most memory since its start"},
                        "restarts": INTEGER,
                        "readySince": {"type": ["number", "null"], "description": "seconds since the epoch"},
                        "exported": {
                            "type": "object",
                            "description": "by name of a metric of Metrics=: gauges, and rates of counters",
                            "additionalProperties": _list({"type": ["number", "null"]}),
                        },
                    }
                )
            ),
            "backends": {
                **_list(
                    _object(
                        {
                            "unit": {**STRING, "description": "the balancer"},
                            "backend": STRING,
                            "server": {**STRING, "description": "empty for the backend as a whole"},
                            "requests": {**_NUMBERS, "description": "a second"},
                            "errors": {**_NUMBERS, "description": "a second"},
                            "latency": {
                                **_NUMBERS,
                                "description": "mean of the last 1024 answers, in seconds",
                            },
                            "queue": {**_NUMBERS, "description": "requests that wait"},
                        }
                    )
                ),
                "description": "of HAProxy, as the machine's balancers report them",
            },
        }
    ),
    "Application": _object(
        {"units": TEXTS, "files": TEXTS, "start": STRINGS, **_NOTE},
        required=("units", "start"),
        examples=[{"units": {"a.service": UNIT_FILE}, "start": ["a.service"]}],
    ),
    "Applied": _read(
        {
            "name": STRING,
            "units": STRINGS,
            "scale": {
                "type": "object",
                "description": "numbers of instances that people asked for, by template",
                "additionalProperties": INTEGER,
            },
        }
    ),
    "Started": _object({"start": STRINGS, "warnings": STRINGS, "release": {"type": ["integer", "null"]}}),
    "Store": _object(
        {
            "members": _list(
                _object(
                    {
                        "url": STRING,
                        "role": {**STRING, "description": "leader, follower, learner; empty if it is silent"},
                        "version": STRING,
                        "size": {**INTEGER, "description": "of its database, in bytes"},
                        "errors": STRINGS,
                        "silence": {**STRING, "description": "reason why it does not answer"},
                    }
                )
            ),
            "leader": {**STRING, "description": "URL of the leader; empty if there is none"},
            "quorum": {**BOOLEAN, "description": "false: nothing can be changed"},
            "size": INTEGER,
            "alarms": STRINGS,
        }
    ),
    "Daemon": _object(
        {
            "pid": INTEGER,
            "machine": STRING,
            "runtime": STRING,
            "version": STRING,
            "user": {**STRING, "description": "name of who asks"},
            "role": {**STRING, "description": "role of who asks"},
        }
    ),
    "Down": _object({"down": BOOLEAN}),
    "Problem": _object({"type": STRING, "title": STRING, "status": INTEGER, "detail": STRING}),
}
