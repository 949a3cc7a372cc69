"""Configuration file of `ws serve`: the place, the applications at their paths, policy, limits, TLS.

listen = "127.0.0.1:8765"

[routes]
"/chat" = "chat:Chat"
"""

import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.values import place
from kirsch.websocket import Limits, Policy
from kirsch.websocket.core.site import Site

LOOPED = ("asyncio", "tornado")
THREADED = ("threaded", "cherrypy", "wsgi")
PROVIDERS = (*LOOPED, *THREADED, "gevent")
NONE = "none"
TEXT, WHOLE, TABLE, LIST = "a text", "a whole number", "a table", "a list of texts"
# The keys of each table, and the kinds of their values.
TOP = {"listen": TEXT, "unix": TEXT, "provider": TEXT, "loop": TEXT, "threads": WHOLE}
TABLES = {
    "policy": {"origins": LIST, "subprotocols": LIST, "compression": "true or false", "headers": TABLE},
    "tls": {"certificate": TEXT, "key": TEXT},
}
KINDS: dict[str, Callable[[Any], bool]] = {
    TEXT: lambda value: isinstance(value, str),
    WHOLE: lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    TABLE: lambda value: isinstance(value, dict),
    LIST: lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "true or false": lambda value: isinstance(value, bool),
}


class Wrong(Exception):
    """A mistake in the file, in one line."""


@dataclass(frozen=True, slots=True)
class Config:
    """Contents of a file; `routes` maps paths to applications, each as `MODULE:NAME`."""

    routes: Mapping[str, str]
    provider: str = "asyncio"
    listen: tuple[str, int] | None = None
    unix: str | None = None
    threads: int | None = None
    loop: str | None = None
    policy: Policy = Policy()  # noqa: RUF009 - it is frozen
    limits: Limits = Limits()  # noqa: RUF009 - it is frozen
    certificate: tuple[str, str | None] | None = None


def parse(text: str, folder: Path) -> Config:
    """Parse the text of a file in `folder`. Raises Wrong."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Wrong(str(error)) from None
    tables = {name: found.pop(name, {}) for name in ("routes", "policy", "limits", "tls")}
    for name, table in tables.items():
        _check({name: table}, {name: TABLE}, "")
    _check(found, TOP, "")
    for name, kinds in TABLES.items():
        _check(tables[name], kinds, f"{name}.")
    routes, tls = tables["routes"], tables["tls"]
    if not routes:
        raise Wrong('[routes] names no application: write "/chat" = "MODULE:NAME"')
    for path, name in routes.items():
        if not isinstance(name, str) or not all(part for part in name.split(":")) or name.count(":") != 1:
            raise Wrong(f'routes."{path}" is MODULE:NAME, not {name!r}')
    if "key" in tls and "certificate" not in tls:
        raise Wrong("tls.key goes with tls.certificate")
    provider = found.get("provider", "asyncio")
    if provider not in PROVIDERS:
        raise Wrong(f"provider is one of {', '.join(PROVIDERS)}, not {provider!r}")
    for name, values in (("threads", THREADED), ("loop", LOOPED)):
        if name in found and provider not in values:
            raise Wrong(f"{name} is for {', '.join(values)}")
    if found.get("loop") not in (None, "asyncio", "uvloop"):
        raise Wrong(f"loop is asyncio or uvloop, not {found['loop']!r}")
    if "listen" in found and "unix" in found:
        raise Wrong("listen or unix, not both")
    try:
        return Config(
            routes=routes,
            provider=provider,
            listen=place(found["listen"]) if "listen" in found else None,
            unix=str(folder / found["unix"]) if "unix" in found else None,
            threads=found.get("threads"),
            loop=found.get("loop"),
            policy=_policy(**tables["policy"]),
            limits=_limits(tables["limits"]),
            certificate=_certificate(tls, folder),
        )
    except (TypeError, ValueError) as error:
        raise Wrong(str(error)) from None


def load(path: Path) -> tuple[Config, dict[str, Any]]:
    """Return the contents of a file, and its applications by path. Raises Failure."""
    try:
        config = parse(path.read_text(), path.parent)
        sys.path.insert(0, str(path.parent.absolute()))
        applications = {route: _imported(name) for route, name in config.routes.items()}
        Site(applications, config.policy, config.limits, _factory(config.provider))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"{path}: is not UTF-8") from None
    except (Wrong, TypeError, ValueError) as error:
        raise Failure(f"{path}: {error}") from None
    return config, applications


def _check(values: dict[str, Any], kinds: Mapping[str, str], table: str) -> None:
    for name, value in values.items():
        if name not in kinds:
            raise Wrong(f"there is no {table}{name}: write {', '.join(kinds)}")
        if not KINDS[kinds[name]](value):
            raise Wrong(f"{table}{name} is {kinds[name]}, not {value!r}")


def _policy(
    origins: list[str] | None = None,
    subprotocols: list[str] | None = None,
    compression: bool = True,
    headers: dict[str, str] | None = None,
) -> Policy:
    policy = Policy(origins=origins, subprotocols=tuple(subprotocols or ()), headers=headers or {})
    if compression:
        return policy
    return Policy(origins=origins, subprotocols=policy.subprotocols, headers=policy.headers, deflate=None)


def _limits(table: dict[str, Any]) -> Limits:
    names = [field.name for field in fields(Limits)]
    for name in table:
        if name not in names:
            raise Wrong(f"there is no limits.{name}: write {', '.join(names)}")
    values: dict[str, Any] = {name: None if value == NONE else value for name, value in table.items()}
    return Limits(**values)


def _certificate(tls: dict[str, str], folder: Path) -> tuple[str, str | None] | None:
    if not tls:
        return None
    return str(folder / tls["certificate"]), str(folder / tls["key"]) if "key" in tls else None


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        raise Wrong(f"there is no module {error.name}, which {name} needs") from None
    except Exception as error:
        raise Wrong(f"{module} cannot be imported: {type(error).__name__}: {error}") from None
    try:
        return getattr(found, attribute)
    except AttributeError:
        raise Wrong(f"there is no {attribute} in {module}") from None


def _factory(provider: str) -> Any:
    """Return a provider's function that makes a Factory of an application."""
    module = "asyncio" if provider in LOOPED else "threaded" if provider in THREADED else provider
    return partial(import_module(f"kirsch.websocket.{module}").factory)
