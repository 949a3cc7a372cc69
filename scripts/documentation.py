"""Pages of the documentation's site: those of the repository, and a reference made of the code's own tables.

MkDocs calls the functions that begin with `on_`.
"""

import importlib
import io
import json
import posixpath
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
WRITTEN = (
    "*.md",
    "docs/*.md",
    "packages/*/docs/*.md",
    "examples/*.md",
    "examples/*/README.md",
    "bench/RESULTS.md",
)
SHOWN = (
    "docs/**/*.png",
    "docs/**/*.json",
    "docs/**/*.yml",
    "packages/*/docs/*.svg",
    "packages/*/docs/*.json",
)
PACKAGES = ("bus", "web", "sql", "unit", "websocket", "amqp", "hbase", "device")
# The search needs it where pages are files: browsers start no workers of files. Without it the rest works.
SEARCH = ROOT / "build/iframe-worker.js"
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s]+)\)")
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2[ \t]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def written() -> list[str]:
    """Return the paths of the pages that people write."""
    return sorted(str(path.relative_to(ROOT)) for pattern in WRITTEN for path in ROOT.glob(pattern))


def shown() -> list[str]:
    """Return the paths of pictures and other files that pages show or link."""
    return sorted(str(path.relative_to(ROOT)) for pattern in SHOWN for path in ROOT.glob(pattern))


def generated() -> dict[str, str]:
    """Return the pages that are made of the code's tables, by path."""
    pages = {"verbs": verbs(), "directives": directives(), "api": api()}
    pages |= {f"kirsch.{name}": package(f"kirsch.{name}") for name in PACKAGES}
    return {f"docs/reference/{name}.md": text for name, text in pages.items()}


def navigation(items: list[Any]) -> Iterator[str]:
    """Yield the pages of a `nav` of mkdocs.yml."""
    for item in items:
        target = next(iter(item.values())) if isinstance(item, dict) else item
        if isinstance(target, list):
            yield from navigation(target)
        else:
            yield target


def configured() -> list[str]:
    """Return the pages that mkdocs.yml lists."""

    class Loader(yaml.SafeLoader):
        """Loader that passes over the tags by which MkDocs makes Python objects."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)
    return list(navigation(yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]))  # noqa: S506


def links(text: str) -> Iterator[str]:
    """Yield the targets of a page's links and pictures, code left out."""
    for found in LINK.finditer(FENCE.sub("", text)):
        yield found[2]


def resolve(page: str, target: str) -> str:
    """Return the path in the repository that a relative link of a page leads to."""
    path = target.partition("#")[0]
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", FENCE.sub(_inline, text), re.MULTILINE):
        plain = LINK.sub(lambda link: link[1].strip("[]"), heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        count = 1
        unique = slug
        while unique in found:
            unique, count = f"{slug}_{count}", count + 1
        found.add(unique)
    return found


def _inline(code: re.Match[str]) -> str:
    """Keep what stands between backticks in a line, and leave code blocks out."""
    return code[0].strip("`") if code[2] is None else ""


def verbs() -> str:
    """Write the page of each verb, as `kirsch help VERB` prints it."""
    from kirsch.cli.verb import Noun
    from kirsch.cli.verbs import ALIASES, VERBS, extensions, load

    def pages(words: list[str], verb: object) -> Iterator[str]:
        if not isinstance(verb, Noun):
            yield f"### kirsch {' '.join(words)}\n\n```text\n{_help(words)}```\n"
            return
        for name, second in verb.commands.items():
            yield from pages([*words, name], second)

    parts = ["# All verbs\n", "Each page is what `kirsch help VERB` prints.\n"]
    parts += [f"`kirsch {alias}` is `kirsch {verb}`.\n" for alias, verb in ALIASES.items()]
    groups = {group: list(members) for group, members in VERBS.items()}
    for group, members in (groups | {"Of other packages": list(extensions())}).items():
        parts.append(f"## {group}\n")
        for name in members:
            parts += pages([name], load(name))
    return "\n".join(parts)


def _help(words: list[str]) -> str:
    from kirsch.cli.main import main

    printed = io.StringIO()
    with redirect_stdout(printed):
        main([*words, "--help"])
    return printed.getvalue()


def public(name: str) -> list[str]:
    """Return the public names of a package."""
    module = importlib.import_module(name)
    return sorted(getattr(module, "__all__", None) or [each for each in dir(module) if each[0] != "_"])


def package(name: str) -> str:
    """Write the page of a package: mkdocstrings puts its public names in the place of each line."""
    lines = [f"::: {name}\n    options:\n      members: false\n"]
    return "\n".join([f"# {name}\n", *lines, *(f"::: {name}.{each}" for each in public(name))]) + "\n"


def directives() -> str:
    """Write what each runtime does with systemd's directives, from the table that `kirsch up` uses."""
    from kirsch.cluster.runtime.directives import SERVICE, UNIT, Beside, InProcess

    meaning = {
        InProcess.HONOURED: "honoured",
        InProcess.MOOT: "makes no difference",
        InProcess.WARNED: "not honoured, with a warning",
        InProcess.REFUSED: "refused",
    }
    parts = [
        "# Directives\n",
        "On a machine of a cluster systemd runs the unit, and every directive is systemd's own. This page"
        " says what `kirsch up` does with each, where a unit is a plain process. It is made of the table that"
        " the code uses; a directive that is not here is not honoured, with a warning."
        " [Unit files](../unit-files.md) has the rest.\n",
        "A command beside a unit, on a machine: `exec` takes the directive over from the running service,"
        " `run` from the file.\n",
    ]
    verbs = {Beside.TRANSIENT: "exec", Beside.CONTEXT: "run"}
    for section, table in (("[Service], [X-Kirsch-Process]", SERVICE), ("[Unit]", UNIT)):
        parts.append(f"## {section}\n")
        parts.append("| directive | `kirsch up` | a command beside the unit |\n| --- | --- | --- |")
        for name, each in sorted(table.items()):
            beside = ", ".join(verb for flag, verb in verbs.items() if flag in each.beside)
            parts.append(f"| `{name}=` | {meaning[each.process]} | {beside} |")
        parts.append("")
    return "\n".join(parts)


def api() -> str:
    """Write the operations of kirschd's API, from its OpenAPI document."""
    from kirsch.cluster.api.openapi import document

    whole = document()
    parts = [
        "# The API\n",
        f"{whole['info']['description']} kirschd serves the document as `/kirsch/v1/openapi.json`.\n",
    ]
    for path, item in whole["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                parts += _operation(f"{method.upper()} {whole['servers'][0]['url']}{path}", operation)
    parts.append("## Problems\n\n| status | |\n| --- | --- |")
    for name, problem in whole["components"]["responses"].items():
        parts.append(f"| {name.removeprefix('Problem')} | {problem['description']} |")
    parts.append("\n## Schemas\n")
    for name, schema in whole["components"]["schemas"].items():
        parts.append(f"### {name}\n\n```json\n{json.dumps(schema, indent=2)}\n```\n")
    return "\n".join(parts)


def _operation(request: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## {operation['operationId']}\n\n`{request}`\n\n{operation['summary']}.\n"
    if "requestBody" in operation:
        yield f"Body: {_schema(operation['requestBody'])}.\n"
    for each in operation.get("parameters", ()):
        yield f"- `?{each['name']}=`: {each['description']}"
    yield "\n| status | | body |\n| --- | --- | --- |"
    for status, answer in operation["responses"].items():
        if "$ref" not in answer:
            yield f"| {status} | {answer['description']} | {_schema(answer)} |"
    problems = [status for status, answer in operation["responses"].items() if "$ref" in answer]
    yield f"\nProblems: {', '.join(problems)}.\n"


def _schema(holder: dict[str, Any]) -> str:
    for content in holder.get("content", {}).values():
        if "$ref" in content["schema"]:
            name = content["schema"]["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
    return ""


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Give MkDocs the pages by their paths in the repository, and the generated ones."""
    from mkdocs.structure.files import File, Files

    taken = [each for each in files if not each.src_uri.endswith(".md") and each.inclusion.name == "INCLUDED"]
    taken = [each for each in taken if not (ROOT / "docs" / each.src_uri).is_file()]
    taken += [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in [*written(), *shown()]]
    if SEARCH.is_file():
        taken.append(File.generated(config, "assets/iframe-worker.js", abs_src_path=str(SEARCH)))
    taken += [File.generated(config, path, content=text) for path, text in generated().items()]
    return Files(taken)


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Leave out links to what is in the repository and not on the site: programs, folders."""

    def link(found: re.Match[str]) -> str:
        path = resolve(page.file.src_uri, found[2])
        if "://" in found[2] or files.get_file_from_path(path) or not (ROOT / path).exists():
            return found[0]
        if files.get_file_from_path(f"{path}/README.md"):
            return f"{found[1]}({found[2].rstrip('/')}/README.md)"
        return found[1].removeprefix("!")[1:-1]

    return LINK.sub(link, markdown)
