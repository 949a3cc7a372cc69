"""/secrets: values are taken, and never answered."""

import base64
import binascii
from dataclasses import asdict, dataclass
from typing import Any

import cherrypy

from kirsch.cluster.api.answers import empty, flag, json_answer, json_body, parameters, run
from kirsch.cluster.api.resource import Collection, Resource
from kirsch.cluster.model import Cluster
from kirsch.cluster.node.units import Refused
from kirsch.cluster.secrets import MAX_SIZE, Login
from kirsch.unit.options import secret_name

FORCE = "force"
# base64, and JSON around it.
MAX_BODY = 2 * MAX_SIZE


class Secrets(Collection["OneSecret"]):
    """All secrets, at /secrets."""

    def GET(self, /, **query: Any) -> bytes:
        """Their names, when each was set, and which units use it; those that units wait for too."""
        parameters(query)
        return self.read_answer({"secrets": run(self.loop, self._listed())})

    def POST(self, /, **query: Any) -> bytes:
        """Seal all secrets anew that were sealed with another key than the one that seals on this machine."""
        parameters(query)
        json_body()
        return json_answer({"sealed": run(self.loop, self.node.secrets.reseal())})

    def item(self, name: str) -> "OneSecret":
        """Return the resource of one secret."""
        return OneSecret(self.api, name)

    async def _listed(self) -> list[dict[str, Any]]:
        kept = self.node.secrets
        used, stored = users(self.node.cluster()), kept.stored()
        names = {*stored, *kept.missing(used)}
        return [
            {
                "name": name,
                "set": stored.get(name),
                "units": list(used.get(name, ())),
                "login": asdict(login) if (login := kept.login(name)) else None,
            }
            for name in sorted(names)
        ]


@dataclass
class OneSecret(Resource):
    """One secret, at /secrets/NAME."""

    name: str

    def PUT(self, /, **query: Any) -> bytes:
        """Set it: {"value", "replace"?, "login"?}, the value in base64; with replace false only if it is new.
        `login`, {"owner", "role"}, is who logs in with it until the owner has it too."""
        parameters(query)
        name = secret_name(self.name)
        body = json_body(MAX_BODY)
        value, login = read_value(body), read_login(body)
        created = run(self.loop, self._put(name, value, body.get("replace", True), login))
        answer = {"name": name, "created": created, "units": list(run(self.loop, self._users()))}
        return json_answer(answer, 201 if created else 200)

    def POST(self, /, **query: Any) -> None:
        """End the time of a login: {"login": null}."""
        parameters(query)
        name = secret_name(self.name)
        if json_body(MAX_BODY) != {"login": None}:
            raise cherrypy.HTTPError(400, 'the body is to be {"login": null}')
        run(self.loop, self.node.secrets.settle(name))
        empty()

    def DELETE(self, /, **query: Any) -> None:
        """Forget it; one that units use only with force=yes."""
        force = flag(parameters(query, FORCE), FORCE)
        name = secret_name(self.name)
        run(self.loop, self._remove(name, force))
        empty()

    async def _put(self, name: str, value: bytes, replace: bool, login: Login | None) -> bool:
        if self.node.secrets.login(name) is not None:
            raise Refused(
                409, f"secret {name} is being rotated: `kirsch secret rotate {name}` ends that first"
            )
        return await self.node.secrets.put(name, value, replace=replace, login=login)

    async def _remove(self, name: str, force: bool) -> None:
        used = await self._users()
        if used and not force and name in self.node.secrets.stored():
            raise Refused(409, f"secret {name} is used by {', '.join(used)}; --force removes it all the same")
        await self.node.secrets.remove(name)

    async def _users(self) -> tuple[str, ...]:
        return users(self.node.cluster()).get(self.name, ())


def read_value(body: dict[str, Any]) -> bytes:
    """The value in the body of a PUT. Raises HTTPError 400; nothing of the value is in its words."""
    kinds = {"value": str, "replace": bool, "login": dict}
    for key, given in body.items():
        if not isinstance(given, kinds.get(key, ())):
            raise cherrypy.HTTPError(
                400, "a field is not known, or not what it should be: value, replace, login"
            )
    try:
        return base64.b64decode(body["value"], validate=True)
    except (KeyError, binascii.Error, ValueError):
        raise cherrypy.HTTPError(400, "value is needed, in base64") from None


def read_login(body: dict[str, Any]) -> Login | None:
    """The login in the body of a PUT, if it has one. Raises HTTPError 400."""
    given = body.get("login")
    if given is None:
        return None
    if given.keys() != {"owner", "role"} or not all(isinstance(each, str) for each in given.values()):
        raise cherrypy.HTTPError(400, 'login is to be {"owner": TEXT, "role": TEXT}')
    return Login(**given)


def users(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """Return the names of the units that ask for each secret, sorted; templates are among them."""
    found: dict[str, set[str]] = {}
    for name, unit in cluster.units.items():
        for secret in unit.options.secrets:
            found.setdefault(secret.name, set()).add(name.text)
    return {secret: tuple(sorted(units)) for secret, units in sorted(found.items())}
