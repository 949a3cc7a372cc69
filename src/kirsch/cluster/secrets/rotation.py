"""The password of a PostgreSQL database changed while its users go on: `kirsch secret rotate`. Pure.

A role has one password, and the old one is to be good until all users have the new. So the new one first gets
a role of its own, a member of the owner that becomes the owner in every session: what it makes is the
owner's. Users that start log in as that role. Once all have started anew the owner gets the password too, and
who starts from then on logs in as the owner. The role stays for those that run, until the next rotation.

Each step can be repeated, and after each one all that runs, and all that starts, can log in.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kirsch.cluster.model.links import targets
from kirsch.unit import Link, Options, UnitFile, UnitName

POSTGRES_PORT = 5432
# The role of the instance that takes writes, in the HealthRole= of a database's units.
PRIMARY = "primary"
ITERATIONS = 4096

Line = Mapping[str, Any]

# psql's commands: \gset keeps what was selected, \gexec runs it, :'name' is a value in quotes. Roles of
# earlier rotations are known by their comment.

# Makes the role, and prints the owner and the role. `verifier` stands in the password's place.
BEGIN = r"""
\set ON_ERROR_STOP on
SELECT 'login of ' || current_user || ', by kirsch secret rotate' AS comment \gset
SELECT left(current_user::text, 48) || '_login_' ||
        (1 + coalesce(max(substring(rolname FROM '_login_([0-9]+)$')::int), 0)) AS role
    FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = :'comment' \gset
BEGIN;
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L IN ROLE %I', :'role', :'verifier', current_user) \gexec
SELECT format('ALTER ROLE %I SET role TO %L', :'role', current_user) \gexec
SELECT format('COMMENT ON ROLE %I IS %L', :'role', :'comment') \gexec
COMMIT;
SELECT current_user, :'role';
"""
# Gives the owner the password of `role`, and removes the roles of earlier rotations. One that still owns
# something, in another database, stays, and cannot log in.
END = r"""
\set ON_ERROR_STOP on
SELECT 'login of ' || current_user || ', by kirsch secret rotate' AS comment \gset
SELECT format('ALTER ROLE %I PASSWORD %L', current_user, rolpassword)
    FROM pg_authid WHERE rolname = :'role' \gexec
SELECT format('ALTER ROLE %I NOLOGIN', rolname)
    FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = :'comment' AND rolname <> :'role' \gexec
\set ON_ERROR_STOP off
SELECT format(command, rolname, current_user)
    FROM pg_roles, unnest(ARRAY['REASSIGN OWNED BY %1$I TO %2$I', 'DROP OWNED BY %1$I', 'DROP ROLE %1$I'])
        WITH ORDINALITY AS commands (command, number)
    WHERE shobj_description(oid, 'pg_authid') = :'comment' AND rolname <> :'role'
    ORDER BY rolname, number \gexec
"""


class RotationError(Exception):
    """Why a secret cannot be rotated: one line that says what to do."""


def verifier(password: str, salt: bytes = b"") -> str:
    """Return what PostgreSQL keeps of a password in ASCII (RFC 5803): so its log never has the password."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(each).decode() for each in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{text[0]}${text[1]}:{text[2]}"


def database(secret: str, users: Sequence[str], lines: Iterable[Line]) -> str:
    """Return the unit that is the database whose password the secret is; of one with replicas the instance
    that takes writes. Raises RotationError."""
    found = [line for line in lines if POSTGRES_PORT in line["ports"] and line["name"] in users]
    names = sorted({str(line["name"]) for line in found})
    if len(names) == 1 and found[0]["ready"]:
        return names[0]
    if len(names) == 1:
        raise RotationError(f"{names[0]} is not ready: `kirsch why {names[0]}` says what it waits for")
    leading = [str(line["name"]) for line in found if line["ready"] and line["role"] == PRIMARY]
    services = {UnitName.parse(name).service for name in names}
    if len(services) == 1 and len(leading) == 1:
        return leading[0]
    if len(services) == 1 and any(line["role"] for line in found):
        raise RotationError(
            f"none of {', '.join(names)} takes writes at present: `kirsch db status {services.pop()}` says "
            "how they are"
        )
    which = f"{', '.join(names)} are" if found else "no unit that uses it is"
    raise RotationError(
        f"{which} a PostgreSQL at port {POSTGRES_PORT}: `kirsch secret set {secret}` sets what is the "
        "password of none, or of several"
    )


def running(secret: str, users: Sequence[str], lines: Sequence[Line], apart: str) -> list[str]:
    """Return the units that are to start with the new password, all but the database and its replicas. Raises
    RotationError for one that is not linked to the database: it would not be told who logs in with it."""
    service = UnitName.parse(apart).service
    members = {
        UnitName.parse(line["name"])
        for line in lines
        if POSTGRES_PORT in line["ports"] and UnitName.parse(line["name"]).service == service
    }
    found = [
        line
        for line in lines
        if line["name"] in users
        and UnitName.parse(line["name"]) not in members
        and not line["finished"]
        and (line["desired"] == "launched" or line["active"] in ("active", "activating", "reloading"))
    ]
    for line in found:
        links = [Link(each.partition("/")[0], each) for each in line["links"]]
        if not any(targets(link, member) for link in links for member in members):
            raise RotationError(
                f"{line['name']} uses secret {secret} and is not linked to {apart}, from where it is told "
                f"the user's name: write Link={service} into its [X-Kirsch]"
            )
    return sorted({str(line["name"]) for line in found})


def exposed(name: str, text: str) -> Sequence[str]:
    """Return the variables that a unit's links tell of. Raises UnitError."""
    file = UnitFile.parse(text.encode(), name)
    return Options.parse(file, UnitName.parse(name)).expose_env


def told(name: str, text: str, secret: str, exposed: Sequence[str]) -> None:
    """Raises RotationError for a unit that is not told the user's name: by PGUSER, beside its PGPASSWORD, or
    by its link."""
    file = UnitFile.parse(text.encode(), name)
    uses = [each.env for each in Options.parse(file, UnitName.parse(name)).secrets if each.name == secret]
    if "POSTGRES_USER" not in exposed and uses != ["PGPASSWORD"]:
        raise RotationError(
            f"{name} is not told the user's name by its link: write ExposeEnv=POSTGRES_USER into the "
            "database's [X-Kirsch]"
        )
