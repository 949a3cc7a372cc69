"""A host's apt sources: the Debian mirror that machines can be made from. Pure. See sources.list(5)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

CODENAMES = frozenset(
    [
        "buster",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ]
)


@dataclass(frozen=True, slots=True)
class Source:
    """One source of packages."""

    uri: str
    suite: str
    components: tuple[str, ...]


def parse(texts: Mapping[str, str]) -> list[Source]:
    """Read the sources of binary packages from files by their names: *.list line by line, *.sources in
    deb822."""
    found: list[Source] = []
    for name, text in texts.items():
        found += _stanzas(text) if name.endswith(".sources") else _lines(text)
    return found


def mirror_lines(sources: Iterable[Source], suite: str) -> str:
    """sources.list for a Debian release, from the mirrors that the host uses itself; empty if it has none.

    The URIs may hold credentials: this is for a pipe, never for an argument.
    """
    known = list(sources)
    main = next((s.uri for s in known if s.suite in CODENAMES and "main" in s.components), "")
    if not main:
        return ""
    lines = [f"deb {main} {suite} main"]
    security = next(
        (s.uri for s in known if re.fullmatch(r"(\w+)-security", s.suite) and "main" in s.components), ""
    )
    if security and "ubuntu" not in security:
        lines.append(f"deb {security} {suite}-security main")
    return "".join(f"{line}\n" for line in lines)


def _lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        words = re.sub(r"\[[^\]]*\]", "", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            yield Source(words[1], words[2], tuple(words[3:]))


def _stanzas(text: str) -> Iterator[Source]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", kept):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            key, colon, value = line.partition(":")
            if line[:1].isspace():
                fields.setdefault(name, []).extend(line.split())
            elif colon:
                name = key.strip().lower()
                fields[name] = value.split()
        if "deb" not in fields.get("types", ()) or fields.get("enabled") == ["no"]:
            continue
        for uri in fields.get("uris", ()):
            for suite in fields.get("suites", ()):
                yield Source(uri, suite, tuple(fields.get("components", ())))
