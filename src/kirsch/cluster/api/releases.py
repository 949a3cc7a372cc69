"""/releases: changes of applications, as the engine carries them out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cherrypy

from kirsch.cluster.api.answers import json_answer, json_body, parameters, run, single
from kirsch.cluster.api.resource import Collection, Resource
from kirsch.cluster.model import Release, keys
from kirsch.cluster.node import releases
from kirsch.cluster.node.units import Note, Refused
from kirsch.unit import Policy, UnitFile
from kirsch.unit.release import read_policy

# What a request may say of a change, besides the change itself.
NOTE: Mapping[str, type] = {"who": str, "message": str, "release": dict, "now": bool}


def read_note(body: Mapping[str, Any]) -> Note:
    """Read the note of a change: who made it, and why. Raises UnitError."""
    policy = read_policy(body["release"]) if "release" in body else Policy()
    return Note(body.get("who", ""), body.get("message", ""), policy, body.get("now", False))


def release_entity(release: Release) -> dict[str, Any]:
    """A release as lists and events have it."""
    return {
        "application": release.application,
        "number": release.number,
        "state": release.state,
        "who": release.who,
        "message": release.message,
        "created": release.created,
        "ended": release.ended,
        "units": sorted(release.units),
        "start": list(release.start),
        "gone": list(release.gone),
        "replaced": [key for key in release.advanced if key not in release.restored],
        "commands": sorted(release.commands),
        "secrets": dict(release.secrets),
        "promoted": release.promoted,
        "failure": asdict(release.failure) if release.failure else None,
    }


def images_of(text: str) -> set[str]:
    """Return the images that a unit's text names."""
    return {entry.value.strip() for entry in UnitFile.parse(text).values("Container", "Image")}


class Releases(Collection["OfApplication"]):
    """Releases of all applications, at /releases."""

    def GET(self, /, **query: Any) -> bytes:
        """Releases of all applications, or of the one that is named, the newest first."""
        application = single(parameters(query, "application"), "application", "")

        async def read() -> list[dict[str, Any]]:
            return [release_entity(each) for each in releases.lines(self.node.cluster(), application)]

        return json_answer({"releases": run(self.loop, read())})

    def item(self, name: str) -> "OfApplication":
        """Return the resource of one application's releases."""
        return OfApplication(self.api, name)


@dataclass
class OfApplication(Collection["OneRelease"]):
    """Releases of one application, at /releases/APPLICATION."""

    application: str

    def POST(self, /, **query: Any) -> bytes:
        """Open a release that brings an earlier one back: {"number"?, "who"?, "message"?, "now"?}, the last
        good one but one if no number is given."""
        parameters(query)
        body = json_body()
        for key, value in body.items():
            if not isinstance(value, {"number": int, **NOTE}.get(key, ())):
                raise cherrypy.HTTPError(400, f"{key} is not known, or not what it should be")
        release = run(
            self.loop, self.node.units.bring_back(self.application, body.get("number"), read_note(body))
        )
        return json_answer({"release": release_entity(release)}, 202)

    def item(self, name: str) -> "OneRelease":
        """Return the resource of one release."""
        return OneRelease(self.api, self.application, name)


@dataclass
class OneRelease(Resource):
    """One release, at /releases/APPLICATION/NUMBER."""

    application: str
    number: str

    def GET(self, /, **query: Any) -> bytes:
        """The release, its images, and of each unit that it changes the texts before and after (null for
        none)."""
        parameters(query)

        async def read() -> dict[str, Any]:
            release = self._find()
            texts = (self.node.mirror.value(keys.text(digest)) for digest in release.units.values())
            images = {image for text in texts if text for image in images_of(text)}
            changes = []
            for name, digest in sorted(release.units.items()):
                before = release.before(name)
                if before is None or before.hash != digest:
                    changes.append(
                        {
                            "unit": name,
                            "before": self.node.mirror.value(keys.text(before.hash)) if before else None,
                            "after": self.node.mirror.value(keys.text(digest)),
                        }
                    )
            return {
                "release": release_entity(release),
                "images": sorted(images),
                "changes": changes,
                "gone": list(release.gone),
            }

        return json_answer(run(self.loop, read()))

    def POST(self, /, **query: Any) -> bytes:
        """Steer the release: {"do": "pause" | "resume" | "promote" | "abort"}."""
        parameters(query)
        verb = json_body().get("do")
        if verb not in releases.VERBS:
            raise cherrypy.HTTPError(400, f"do is to be one of {', '.join(releases.VERBS)}")

        async def steer() -> Release:
            return await self.node.units.steer(self._find(), verb)

        return json_answer({"release": release_entity(run(self.loop, steer()))}, 202)

    def _find(self) -> Release:
        number = int(self.number) if self.number.isascii() and self.number.isdigit() else 0
        release = self.node.cluster().releases.get((self.application, number))
        if release is None:
            raise Refused(404, f"there is no release {self.number} of {self.application}")
        return release
