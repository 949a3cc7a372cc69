"""The documentation's pages: the site lists each, their links lead somewhere, and the reference is whole.

`make docs` builds the site, with warnings as errors.
"""

import re

import pytest
from scripts import documentation

from kirsch.cli.verb import Noun
from kirsch.cli.verbs import load, summaries
from kirsch.cluster.api.openapi import OPERATIONS
from kirsch.cluster.node.settings import KNOWN, Settings
from kirsch.cluster.runtime.directives import SERVICE, UNIT

WRITTEN = {page: (documentation.ROOT / page).read_text() for page in documentation.written()}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return WRITTEN | documentation.generated()


def test_the_site_lists_every_page_once(pages: dict[str, str]):
    listed = documentation.configured()
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == set(pages)


def leads_somewhere(pages: dict[str, str], page: str, target: str) -> bool:
    if "://" in target or target.startswith("mailto:"):
        return True
    path, anchor = documentation.resolve(page, target), target.partition("#")[2]
    if path in pages:
        return not anchor or anchor in documentation.anchors(pages[path])
    return (documentation.ROOT / path).exists()


@pytest.mark.parametrize("page", WRITTEN)
def test_links_of_a_page_lead_somewhere(pages: dict[str, str], page: str):
    lost = [target for target in documentation.links(pages[page]) if not leads_somewhere(pages, page, target)]
    assert not lost


def test_a_link_that_leads_nowhere_is_found():
    text = "[a](b.md) `[c](d.md)` [![e](f.png)](g.md#h)\n```\n[i](j.md)\n```\n"
    assert list(documentation.links(text)) == ["b.md", "g.md#h"]
    assert documentation.resolve("docs/a.md", "../b/c.md#d") == "b/c.md"
    assert documentation.anchors("# `[Service]`, how it runs\n## A\n## A\n") == {
        "service-how-it-runs",
        "a",
        "a_1",
    }


def test_the_reference_has_each_verb_directive_and_operation(pages: dict[str, str]):
    page = pages["docs/reference/verbs.md"]
    for name in summaries():
        noun = load(name)
        words = [f"{name} {second}" for second in noun.commands] if isinstance(noun, Noun) else [name]
        for each in words:
            assert f"kirsch {each}" in page
    directives = pages["docs/reference/directives.md"]
    assert all(f"| `{name}=` |" in directives for name in (*SERVICE, *UNIT))
    assert all(f"\n## {operation.id}\n" in pages["docs/reference/api.md"] for operation in OPERATIONS)
    assert "::: kirsch.websocket.WebSocket\n" in pages["docs/reference/kirsch.websocket.md"]


def test_the_page_of_settings_has_each_and_shows_a_file_that_holds():
    page = WRITTEN["docs/kirschd.md"]
    after = page.partition("## Settings")[2]
    shown = "\n".join(line[4:] for line in after.partition("\n| ")[0].splitlines() if line.startswith("    "))
    assert Settings.parse(shown).cluster == "lab"
    assert all(re.search(rf"^\[?{name}\b", shown, re.MULTILINE) or f"| `{name}` |" in after for name in KNOWN)
