"""The parts of kirsch.web that only compute: entity tags, hosts, settings, files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.web import (
    LOOK,
    SettingsError,
    Site,
    TagError,
    Tags,
    files_below,
    is_held,
    is_own_host,
    is_same_site,
    labelled,
)


class TestTags:
    @pytest.mark.parametrize(
        ("field", "tags"),
        [
            ('"3"', {'"3"'}),
            (' "3" ,, W/"4",', {'"3"', 'W/"4"'}),
            ('"other,thing", "7"', {'"other,thing"', '"7"'}),
            ('""', {'""'}),
        ],
    )
    def test_a_list(self, field, tags):
        assert Tags.parse(field) == Tags(frozenset(tags))

    def test_any(self):
        assert Tags.parse(" * ").any
        assert Tags.parse("*").matches_weakly('"3"')

    @pytest.mark.parametrize("field", ["", "3", '"3', '3"', '"3" "4"', '*, "3"', 'w/"3"', ",", '"a b"'])
    def test_what_is_no_tag_is_refused(self, field):
        with pytest.raises(TagError):
            Tags.parse(field)
        assert not is_held(field, '"3"')

    @given(st.text())
    def test_any_text_is_tags_or_an_error(self, text):
        try:
            Tags.parse(text)
        except TagError:
            pass

    @pytest.mark.parametrize(
        ("field", "held"),
        [
            ('"3"', True),
            ('W/"3"', True),
            ('"2", "3"', True),
            ("*", True),
            ('"4"', False),
            ("nonsense", False),
        ],
    )
    def test_what_is_held(self, field, held):
        assert is_held(field, '"3"') is held
        assert is_held(field, 'W/"3"') is held


NAMES = frozenset({"notes.example.org"})


class TestHosts:
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
    def test_own(self, host):
        assert is_own_host(host, NAMES)

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
    def test_strangers(self, host):
        assert not is_own_host(host, NAMES)

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
    def test_same_site(self, headers, allowed):
        assert is_same_site({"Host": "localhost:8091"} | headers) is allowed


class TestSite:
    def test_what_a_unit_is_given(self):
        unit = {"KIRSCH_ADDRESS": "127.1.2.3", "KIRSCH_UNIT": "shop@1.container", "PORT": "81"}
        ours = {"SHOP_HOSTS": "Shop.example  b.example", "SHOP_DRAIN": "1.5", "SHOP_LOG": "json"}
        site = Site.from_environment(unit | ours, "SHOP")
        assert (site.address, site.port, site.instance) == ("127.1.2.3", 81, "shop@1")
        assert site.hosts == {"shop.example", "b.example"}
        assert (site.drain, site.log) == (1.5, "json")

    def test_what_has_a_default(self):
        site = Site.from_environment({"SHOP_LOG": ""}, "SHOP")
        assert site == Site("127.0.0.1", 8080, "127.0.0.1:8080", frozenset(), 2.0, "text")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PORT", "0"),
            ("PORT", "http"),
            ("PORT", "65536"),
            ("SHOP_DRAIN", "-1"),
            ("SHOP_DRAIN", "soon"),
            ("SHOP_LOG", "xml"),
        ],
    )
    def test_what_is_wrong_is_named(self, name, value):
        with pytest.raises(SettingsError, match=f"{name} is '{value}'"):
            Site.from_environment({name: value}, "SHOP")


class TestFiles:
    def test_those_of_a_folder_and_of_those_in_it(self, tmp_path):
        (tmp_path / "vendor").mkdir()
        (tmp_path / "vendor/pure.css").write_text("a{}")
        (tmp_path / "app.js").write_text("1")
        (tmp_path / "secret.py").write_text("")
        found = files_below(tmp_path)
        assert set(found) == {"app.js", "vendor/pure.css"}
        assert found["vendor/pure.css"].media_type == "text/css;charset=utf-8"
        assert found["app.js"].tag != found["vendor/pure.css"].tag

    def test_the_look(self):
        assert set(files_below(LOOK)) == {"look.css"}


def test_headers_are_added_and_may_be_others():
    def inner(environ, start_response):
        start_response("200 OK", [("Content-Length", "0")])
        return []

    sent = []
    labelled(inner, {"Server": "shop", "Referrer-Policy": "origin"})(
        {}, lambda status, headers, exc_info: sent.extend(headers)
    )
    assert ("Server", "shop") in sent
    assert ("X-Content-Type-Options", "nosniff") in sent
    assert [value for name, value in sent if name == "Referrer-Policy"] == ["origin"]
