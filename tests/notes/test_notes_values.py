"""The parts of the notes application that only compute: tags, documents, listings, settings."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.web import SettingsError, Tags

NOTES = Path(__file__).parents[2] / "examples" / "notes"


@pytest.fixture(scope="module")
def webapp() -> Iterator[Any]:
    sys.path.insert(0, str(NOTES))
    try:
        from webapp import document, etag, listing, settings

        class Modules:
            pass

        modules = Modules()
        modules.__dict__.update(document=document, etag=etag, listing=listing, settings=settings)
        yield modules
    finally:
        sys.path.remove(str(NOTES))


class TestTags:
    @pytest.mark.parametrize(
        ("field", "versions"),
        [
            ('"3"', {3}),
            ('"3", "4"', {3, 4}),
            ("*", set()),
            ('W/"3"', set()),
            ('"other,thing", "7"', {7}),
            ('"03"', set()),
            ('""', set()),
        ],
    )
    def test_versions_by_strong_comparison(self, webapp, field, versions):
        assert webapp.etag.versions(Tags.parse(field)) == versions

    @given(st.integers(1, 10**9 - 1))
    def test_a_tag_matches_its_version(self, webapp, version):
        tag = webapp.etag.entity_tag(version)
        assert webapp.etag.versions(Tags.parse(tag)) == {version}
        assert Tags.parse(f"W/{tag}").matches_weakly(tag)
        assert not Tags.parse(tag).matches_weakly(webapp.etag.entity_tag(version + 1))


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
        site = settings.site
        assert (site.address, site.port, site.instance) == ("127.1.2.3", 81, "notes@1")
        url = settings.database
        assert (url.host, url.port, url.username, url.password) == ("127.9.8.7", 5433, "anna", "p@ss/word")
        assert (url.database, url.drivername) == ("notes", "postgresql+psycopg")

    def test_a_database_of_several_servers(self, webapp):
        members = {f"POSTGRES_{n}_PORT_5432_TCP_ADDR": f"10.0.0.{n}" for n in (1, 2, 3)}
        settings = webapp.settings.Settings.from_environment(self.LINK | members)
        hosts = ("127.9.8.7:5433", "10.0.0.1:5433", "10.0.0.2:5433", "10.0.0.3:5433")
        assert settings.database.query["host"] == hosts
        assert (settings.database.host, settings.database.port) == (None, None)
        leader = {"POSTGRES_PORT_5432_TCP_ADDR": "10.0.0.2"}
        again = webapp.settings.Settings.from_environment(self.LINK | members | leader)
        assert again.database.query["host"] == ("10.0.0.2:5433", "10.0.0.1:5433", "10.0.0.3:5433")

    def test_what_has_a_default(self, webapp):
        settings = webapp.settings.Settings.from_environment({"DATABASE_URL": "postgres://a:b@c/d"})
        assert settings.site.instance == "127.0.0.1:8080"
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
        with pytest.raises(SettingsError, match=missing):
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
        with pytest.raises(SettingsError, match=name) as error:
            webapp.settings.Settings.from_environment(self.LINK | {name: value})
        assert "secret" not in str(error.value)
