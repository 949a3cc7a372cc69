"""The parts of the notes application that only compute: tags, documents, listings, settings, the guard."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

NOTES = Path(__file__).parents[2] / "examples" / "notes"


@pytest.fixture(scope="module")
def webapp() -> Iterator[Any]:
    sys.path.insert(0, str(NOTES))
    try:
        from webapp import document, etag, guard, listing, settings

        class Modules:
            pass

        modules = Modules()
        modules.__dict__.update(document=document, etag=etag, guard=guard, listing=listing, settings=settings)
        yield modules
    finally:
        sys.path.remove(str(NOTES))


class TestTags:
    @pytest.mark.parametrize(
        ("field", "versions", "everything"),
        [
            ('"3"', {3}, False),
            ('"3", "4"', {3, 4}, False),
            (' "3" ,, "4",', {3, 4}, False),
            ("*", set(), True),
            ('W/"3"', set(), False),
            ('"other,thing", "7"', {7}, False),
            ('"03"', set(), False),
            ('""', set(), False),
        ],
    )
    def test_versions_by_strong_comparison(self, webapp, field, versions, everything):
        tags = webapp.etag.Tags.parse(field)
        assert tags.versions == versions
        assert tags.any is everything

    @pytest.mark.parametrize("field", ["", "3", '"3', '3"', '"3" "4"', '*, "3"', 'w/"3"', ",", '"a b"'])
    def test_what_is_no_tag_is_refused(self, webapp, field):
        with pytest.raises(webapp.etag.TagError):
            webapp.etag.Tags.parse(field)

    @given(st.integers(1, 10**9 - 1))
    def test_a_tag_matches_its_version(self, webapp, version):
        tag = webapp.etag.entity_tag(version)
        assert webapp.etag.Tags.parse(tag).versions == {version}
        assert webapp.etag.Tags.parse(tag).matches_weakly(version)
        assert webapp.etag.Tags.parse(f"W/{tag}").matches_weakly(version)
        assert not webapp.etag.Tags.parse(tag).matches_weakly(version + 1)

    @given(st.text())
    def test_any_text_is_tags_or_an_error(self, webapp, text):
        try:
            webapp.etag.Tags.parse(text)
        except webapp.etag.TagError:
            pass


class TestDocument:
    @given(st.binary() | st.text().map(str.encode))
    def test_any_bytes_are_a_document_or_an_error(self, webapp, body):
        try:
            assert set(webapp.document.parse(body)) <= {"text"}
        except webapp.document.DocumentError:
            pass

    @given(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text))
    def test_text_comes_back_as_it_was(self, webapp, text):
        for ascii_only in (True, False):
            body = json.dumps({"text": text}, ensure_ascii=ascii_only).encode()
            assert webapp.document.text_of(webapp.document.parse(body)) == text

    @pytest.mark.parametrize(
        "body",
        [b"[" * 100_000, b'{"text": ' + b"9" * 10_000 + b"}", b'\xef\xbb\xbf{"text": "x"}', b'{"a": 1}'],
    )
    def test_strange_documents(self, webapp, body):
        with pytest.raises(webapp.document.DocumentError):
            webapp.document.parse(body)


class TestListing:
    @given(st.integers(1, 100), st.integers(1, 10**17), st.text(alphabet=st.characters(codec="utf-8")))
    def test_the_link_to_the_next_page_is_read_back(self, webapp, limit, last, query):
        from urllib.parse import parse_qsl, urlsplit

        query = query.replace("\0", "")
        link = webapp.listing.Listing(limit, None, query).next(last)
        parameters = dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))
        assert webapp.listing.Listing.parse(parameters) == webapp.listing.Listing(limit, last, query)

    @pytest.mark.parametrize(
        "parameters",
        [
            *({"limit": value} for value in ("0", "101", "-1", "x", "", "1.0", "٣", "1e1")),
            *({"after": value} for value in ("0", "-1", "x", "", "9" * 19, "٣")),
            {"q": "\0"},
            {"q": "x" * 1001},
            {"limit": ["1", "2"]},
            {"page": "1"},
        ],
    )
    def test_what_is_no_page_is_refused(self, webapp, parameters):
        with pytest.raises(webapp.listing.ListingError):
            webapp.listing.Listing.parse(parameters)


class TestGuard:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost:8091",
            "127.5.6.7:8080",
            "[::1]:8080",
            "notes",
            "app.localhost",
            "Notes.Example.org:443",
            "10.0.0.1",
        ],
    )
    def test_own_hosts(self, webapp, host):
        assert webapp.guard.is_own_host(host, frozenset({"notes.example.org"}))

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example:8091",
            "",
            "a b",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x@y",
            "1.2.3.4.5",
        ],
    )
    def test_strangers_hosts(self, webapp, host):
        assert not webapp.guard.is_own_host(host, frozenset({"notes.example.org"}))

    @pytest.mark.parametrize(
        ("headers", "allowed"),
        [
            ({}, True),
            ({"Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "none"}, True),
            ({"Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "same-site"}, False),
            ({"Origin": "http://localhost:8091"}, True),
            ({"Origin": "https://LOCALHOST:8091"}, True),
            ({"Origin": "http://localhost:9999"}, False),
            ({"Origin": "null"}, False),
            ({"Origin": "http://[broken"}, False),
        ],
    )
    def test_same_site(self, webapp, headers, allowed):
        assert webapp.guard.is_same_site({"Host": "localhost:8091"} | headers) is allowed


class TestSettings:
    LINK: ClassVar[dict[str, str]] = {
        "POSTGRES_PORT_5432_TCP_ADDR": "127.9.8.7",
        "POSTGRES_PORT_5432_TCP_PORT": "5433",
        "POSTGRES_ENV_POSTGRES_USER": "anna",
        "POSTGRES_ENV_POSTGRES_DB": "notes",
        "POSTGRES_PASSWORD": "p@ss/word",
    }

    def test_from_a_link(self, webapp):
        unit = {"KIRSCH_ADDRESS": "127.1.2.3", "KIRSCH_UNIT": "notes@1.container", "PORT": "81"}
        settings = webapp.settings.Settings.from_environment(self.LINK | unit)
        assert (settings.address, settings.port, settings.instance) == ("127.1.2.3", 81, "notes@1")
        url = settings.database
        assert (url.host, url.port, url.username, url.password) == ("127.9.8.7", 5433, "anna", "p@ss/word")
        assert (url.database, url.drivername) == ("notes", "postgresql+psycopg")

    def test_what_has_a_default(self, webapp):
        settings = webapp.settings.Settings.from_environment({"DATABASE_URL": "postgres://a:b@c/d"})
        assert (settings.address, settings.port, settings.instance) == ("127.0.0.1", 8080, "127.0.0.1:8080")
        assert settings.database.render_as_string(hide_password=False) == "postgresql+psycopg://a:b@c/d"

    def test_the_password_of_the_link(self, webapp):
        variables = self.LINK | {"POSTGRES_ENV_POSTGRES_PASSWORD": "x"}
        del variables["POSTGRES_PASSWORD"]
        assert webapp.settings.Settings.from_environment(variables).database.password == "x"

    @pytest.mark.parametrize(
        "missing", ["POSTGRES_PORT_5432_TCP_ADDR", "POSTGRES_ENV_POSTGRES_USER", "POSTGRES_PASSWORD"]
    )
    def test_what_is_missing_is_named(self, webapp, missing):
        variables = {name: value for name, value in self.LINK.items() if name != missing}
        with pytest.raises(webapp.settings.SettingsError, match=missing):
            webapp.settings.Settings.from_environment(variables)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PORT", "0"),
            ("PORT", "http"),
            ("PORT", "65536"),
            ("DATABASE_URL", "mysql://x/y"),
            ("DATABASE_URL", "secret"),
            ("NOTES_DRAIN", "-1"),
            ("NOTES_DRAIN", "soon"),
            ("NOTES_LOG", "xml"),
        ],
    )
    def test_what_is_wrong_is_named(self, webapp, name, value):
        with pytest.raises(webapp.settings.SettingsError, match=name) as error:
            webapp.settings.Settings.from_environment(self.LINK | {name: value})
        assert "secret" not in str(error.value)
