"""The REST resource /api/notes, asked over HTTP of the real application on a real PostgreSQL."""

import http.client
import socket
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.services

SURROGATE = b'{"text": "\\ud800"}'


def assert_problem(answer: Any, status: int, says: str = "") -> None:
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert says in problem["detail"]
    assert "Traceback" not in problem["detail"]


class TestWriting:
    def test_a_note_is_created(self, client):
        answer = client("POST", "/api/notes", {"text": "Buy cherries"})
        assert answer.status == 201
        note = answer.json()
        assert answer.headers["Location"] == f"/api/notes/{note['id']}"
        assert answer.headers["ETag"] == '"1"'
        assert answer.headers["Content-Type"] == "application/json"
        assert (note["text"], note["version"], note["created"]) == ("Buy cherries", 1, note["updated"])
        assert client("GET", answer.headers["Location"]).json() == note

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "not JSON"),
            (b'{"text": ', "line 1, column 10"),
            (b'"text"', "object"),
            (b"[]", "object"),
            (b"null", "object"),
            (b"{}", "missing"),
            (b'{"text": 1}', "string"),
            (b'{"text": null}', "string"),
            (b'{"text": ""}', "empty"),
            (b'{"text": " \\n\\t"}', "empty"),
            (b'{"text": "a\\u0000b"}', "NUL"),
            (SURROGATE, "surrogate"),
            (b'{"text": "x", "color": "red"}', '"color"'),
            (b'{"text": "x", "id": 1}', '"id"'),
            (b'{"text": "\xff"}', "UTF-8"),
            (b'{"text": "' + b"x" * 200_001 + b'"}', "200,000"),
            (b"[" * 50_000, "too large"),
        ],
    )
    def test_a_bad_document_is_400(self, client, body, says):
        assert_problem(client("POST", "/api/notes", body, Content_Type="application/json"), 400, says)
        note = client.write("kept")
        path = f"/api/notes/{note['id']}"
        assert_problem(client("PUT", path, body, Content_Type="application/json", If_Match="*"), 400, says)
        assert client("GET", path).json() == note

    @pytest.mark.parametrize(
        "media_type", ["text/plain", "application/x-www-form-urlencoded", "text/json", ""]
    )
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    def test_another_media_type_is_415(self, client, method, media_type):
        path = "/api/notes" if method == "POST" else f"/api/notes/{client.write('x')['id']}"
        answer = client(method, path, b'{"text": "y"}', Content_Type=media_type, If_Match="*")
        assert_problem(answer, 415, "application/json")
        assert "application/json" in answer.headers["Accept-Patch" if method == "PATCH" else "Accept"]

    def test_another_charset_is_415(self, client):
        body = '{"text": "é"}'.encode("latin-1")
        assert_problem(
            client("POST", "/api/notes", body, Content_Type="application/json; charset=latin-1"), 415
        )
        accepted = client(
            "POST", "/api/notes", {"text": "é"}, Content_Type='application/json; charset="UTF-8"'
        )
        assert accepted.status == 201

    @pytest.mark.parametrize("size", [(1 << 20) + 1, 4 << 20])
    def test_more_than_a_mebibyte_is_413(self, client, size):
        assert_problem(client("POST", "/api/notes", b"x" * size, Content_Type="application/json"), 413)

    def test_a_large_chunked_body_is_413(self, client):
        connection = http.client.HTTPConnection(client.address, client.port, timeout=10)
        pieces = (b"x" * 65536 for _ in range(32))
        connection.request(
            "POST", "/api/notes", pieces, {"Content-Type": "application/json"}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
        connection.close()

    def test_a_chunked_body_is_read(self, client):
        connection = http.client.HTTPConnection(client.address, client.port, timeout=10)
        pieces = iter([b'{"te', b'xt": "in pie', b'ces"}'])
        connection.request(
            "POST", "/api/notes", pieces, {"Content-Type": "application/json"}, encode_chunked=True
        )
        response = connection.getresponse()
        assert response.status == 201
        assert b"in pieces" in response.read()
        connection.close()

    def test_a_client_that_promises_gigabytes_is_not_waited_for(self, client):
        with socket.create_connection((client.address, client.port), timeout=10) as connection:
            head = f"POST /api/notes HTTP/1.1\r\nHost: {client.address}\r\nContent-Type: text/plain\r\n"
            connection.sendall(
                f"{head}Content-Length: 2000\r\nConnection: close\r\n\r\n".encode() + b"x" * 2000
            )
            assert connection.recv(12) == b"HTTP/1.1 415"

    @pytest.mark.parametrize(
        "text", ["🍒 kirsch", "שלום עולם", "e\u0301 \u202e", "<script>alert(1)</script>", " a\r\n\tb "]
    )
    def test_texts_come_back_as_they_were(self, client, text):
        note = client.write(text)
        assert note["text"] == text
        assert client("GET", f"/api/notes/{note['id']}").json()["text"] == text

    def test_a_note_of_100_kilobytes(self, client):
        text = "ü🍒x\n" * 12_800
        assert client("GET", f"/api/notes/{client.write(text)['id']}").json()["text"] == text

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text))
    def test_any_text_comes_back_as_it_was(self, client, text):
        assert client("GET", f"/api/notes/{client.write(text)['id']}").json()["text"] == text


class TestReading:
    def test_nothing_is_an_empty_list(self, client):
        answer = client("GET", "/api/notes")
        assert (answer.status, answer.json()) == (200, {"notes": [], "next": None})
        assert "Link" not in answer.headers

    def test_pages_follow_each_other_newest_first(self, client):
        for number in range(25):
            client.write(f"note {number}")
        texts, path = [], "/api/notes?limit=10"
        sizes = []
        while path:
            answer = client("GET", path)
            page = answer.json()
            sizes.append(len(page["notes"]))
            texts += [note["text"] for note in page["notes"]]
            path = page["next"]
            assert answer.headers["Link"] == (f'<{path}>; rel="next"' if path else None)
        assert texts == [f"note {number}" for number in reversed(range(25))]
        assert sizes == [10, 10, 5]
        assert len(client("GET", "/api/notes").json()["notes"]) == 20

    def test_a_page_that_is_just_full_is_the_last(self, client):
        for number in range(3):
            client.write(str(number))
        assert client("GET", "/api/notes?limit=3").json()["next"] is None

    def test_search_ignores_case_and_takes_wildcards_literally(self, client):
        for text in ("Größe ÉTÉ", "100% sure", "100 percent", "a_b", "axb", "back\\slash /x"):
            client.write(text)

        def found(query: str) -> set[str]:
            return {note["text"] for note in client("GET", f"/api/notes?q={query}").json()["notes"]}

        assert found("%C3%A9t%C3%A9") == {"Größe ÉTÉ"}
        assert found("GR%C3%96") == {"Größe ÉTÉ"}
        assert found("0%25") == {"100% sure"}
        assert found("a_b") == {"a_b"}
        assert found("%5C") == {"back\\slash /x"}
        assert found("/x") == {"back\\slash /x"}
        assert found("nothing") == set()
        assert len(found("")) == 6

    def test_search_has_pages_too(self, client):
        for number in range(6):
            client.write(f"{'odd' if number % 2 else 'even'} {number} &")
        first = client("GET", "/api/notes?limit=2&q=odd").json()
        second = client("GET", first["next"]).json()
        assert [note["text"] for note in first["notes"] + second["notes"]] == [
            "odd 5 &",
            "odd 3 &",
            "odd 1 &",
        ]
        assert second["next"] is None

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=101", "limit=x", "after=x", "after=-1", "q=%00", "limit=1&limit=2", "page=2"],
    )
    def test_what_is_no_page_is_400(self, client, query):
        assert_problem(client("GET", f"/api/notes?{query}"), 400)

    def test_a_query_that_is_not_utf8_is_refused(self, client):
        assert_problem(client("GET", "/api/notes?q=%ff"), 404, "query")

    @pytest.mark.parametrize(
        "segment",
        [
            "0",
            "1",
            "-1",
            "+1",
            "01",
            "1.0",
            "x",
            "9" * 40,
            "%D9%A3",
            "GET",
            "exposed",
            "__class__",
            "1/2",
            "%00",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
    def test_an_unknown_note_is_404(self, client, method, segment):
        body = {"text": "x"} if method.startswith("P") else None
        answer = client(method, f"/api/notes/{segment}", body, If_Match="*")
        assert_problem(answer, 404)

    @pytest.mark.parametrize("path", ["/api", "/api/", "/api/other", "/api/notes.json"])
    def test_other_paths_of_the_api_are_404(self, client, path):
        assert_problem(client("GET", path), 404)

    def test_head(self, client):
        path = f"/api/notes/{client.write('x')['id']}"
        for each in (path, "/api/notes"):
            head, get = client("HEAD", each), client("GET", each)
            assert (head.status, head.body) == (200, b"")
            assert head.headers["Content-Length"] == get.headers["Content-Length"]
            assert head.headers["ETag"] == get.headers["ETag"]

    @pytest.mark.parametrize(
        ("path", "method", "allowed"),
        [
            ("/api/notes", "PUT", {"GET", "HEAD", "OPTIONS", "POST"}),
            ("/api/notes", "DELETE", {"GET", "HEAD", "OPTIONS", "POST"}),
            ("/api/notes", "BREW", {"GET", "HEAD", "OPTIONS", "POST"}),
            ("/api/notes/1", "POST", {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"}),
        ],
    )
    def test_405_says_what_is_allowed(self, client, path, method, allowed):
        answer = client(method, path)
        assert_problem(answer, 405)
        assert set(answer.headers["Allow"].split(", ")) == allowed

    def test_options(self, client):
        answer = client("OPTIONS", "/api/notes")
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
        answer = client("OPTIONS", "/api/notes/1")
        assert answer.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
        assert "application/merge-patch+json" in answer.headers["Accept-Patch"]


class TestConditions:
    def test_if_none_match(self, client):
        path = f"/api/notes/{client.write('x')['id']}"
        for held in ('"1"', 'W/"1"', '"0", "1"', "*"):
            answer = client("GET", path, If_None_Match=held)
            assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", '"1"')
        assert client("GET", path, If_None_Match='"2"').status == 200
        assert_problem(client("GET", path, If_None_Match="1"), 400)

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_a_change_counts_the_version_up(self, client, method):
        note = client.write("one")
        path = f"/api/notes/{note['id']}"
        answer = client(method, path, {"text": "two"}, If_Match='"1"')
        assert (answer.status, answer.headers["ETag"]) == (200, '"2"')
        changed = answer.json()
        assert (changed["text"], changed["version"], changed["created"]) == ("two", 2, note["created"])
        assert changed["updated"] > note["updated"]
        assert client("GET", path).json() == changed

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_without_a_condition_428(self, client, method):
        path = f"/api/notes/{client.write('x')['id']}"
        body = None if method == "DELETE" else {"text": "y"}
        assert_problem(client(method, path, body), 428, "If-Match")
        assert client("GET", path).json()["text"] == "x"

    @pytest.mark.parametrize("tag", ['"2"', '"0"', 'W/"1"', '"x"', '"999999999999"'])
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_another_version_412(self, client, method, tag):
        path = f"/api/notes/{client.write('x')['id']}"
        body = None if method == "DELETE" else {"text": "y"}
        answer = client(method, path, body, If_Match=tag)
        assert_problem(answer, 412)
        assert answer.headers["ETag"] == '"1"'
        assert client("GET", path).json()["text"] == "x"

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_any_version_and_one_of_several(self, client, method):
        for tags in ("*", '"7", "1"'):
            path = f"/api/notes/{client.write('x')['id']}"
            answer = client(method, path, None if method == "DELETE" else {"text": "y"}, If_Match=tags)
            assert answer.status == (204 if method == "DELETE" else 200)

    def test_an_unquoted_tag_is_400(self, client):
        path = f"/api/notes/{client.write('x')['id']}"
        assert_problem(client("DELETE", path, If_Match="1"), 400, "If-Match")

    def test_an_empty_patch_changes_nothing(self, client):
        note = client.write("x")
        path = f"/api/notes/{note['id']}"
        for media_type in ("application/merge-patch+json", "application/json"):
            answer = client("PATCH", path, {}, If_Match='"1"', Content_Type=media_type)
            assert (answer.status, answer.json(), answer.headers["ETag"]) == (200, note, '"1"')
        assert_problem(client("PATCH", path, {}, If_Match='"2"'), 412)
        assert_problem(client("PATCH", path, {"text": None}, If_Match='"1"'), 400)
        assert_problem(client("PATCH", "/api/notes/999999", {}, If_Match='"1"'), 404)

    def test_put_takes_no_patch(self, client):
        path = f"/api/notes/{client.write('x')['id']}"
        assert_problem(client("PUT", path, {"text": "y"}, Content_Type="application/merge-patch+json"), 415)

    def test_deleted_is_gone(self, client):
        path = f"/api/notes/{client.write('x')['id']}"
        answer = client("DELETE", path, If_Match='"1"')
        assert (answer.status, answer.body) == (204, b"")
        assert "Content-Type" not in answer.headers
        for method in ("GET", "DELETE"):
            assert_problem(client(method, path, If_Match="*"), 404)

    def test_of_many_writers_one_wins(self, client):
        path = f"/api/notes/{client.write('start')['id']}"
        for version in range(1, 6):
            answers: list[Any] = []
            barrier = threading.Barrier(8)

            def write(
                number: int, version: int = version, answers: Any = answers, barrier: Any = barrier
            ) -> None:
                barrier.wait()
                answers.append(client("PUT", path, {"text": f"writer {number}"}, If_Match=f'"{version}"'))

            writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            assert sorted(answer.status for answer in answers) == [200] + [412] * 7
            winner = next(answer for answer in answers if answer.status == 200)
            assert client("GET", path).json() == winner.json()


class TestStrangers:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://evil.example"},
        ],
    )
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_a_change_asked_for_by_another_site_is_403(self, client, method, headers):
        path = "/api/notes" if method == "POST" else f"/api/notes/{client.write('x')['id']}"
        body = None if method == "DELETE" else {"text": "y"}
        assert_problem(client(method, path, body, headers | {"If-Match": "*"}), 403)

    def test_our_own_page_may(self, client):
        for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": client.url}):
            assert client("POST", "/api/notes", {"text": "x"}, headers).status == 201

    def test_a_domain_that_points_here_is_421(self, client):
        assert_problem(client("GET", "/api/notes", Host="evil.example:8080"), 421, "NOTES_HOSTS")
        assert client("GET", "/", Host="evil.example").status == 421
        assert client("GET", "/api/notes", Host="localhost:8091").status == 200

    def test_what_the_host_field_says_is_not_repeated(self, client):
        answer = client("POST", "/api/notes", {"text": "x"}, Host="other:1234")
        assert answer.headers["Location"].startswith("/api/notes/")

    @pytest.mark.parametrize(
        "path", ["/", "/api/notes", "/api/notes/0", "/nowhere", "/static/app.js", "/healthz", "/readyz"]
    )
    def test_every_answer_has_the_headers(self, client, path):
        headers = client("GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Kirsch-Instance"] == "notes@1"
        assert headers.get_all("Server") == ["notes"]
        assert "Access-Control-Allow-Origin" not in headers


class TestFiles:
    def test_the_page(self, client):
        answer = client("GET", "/")
        assert answer.headers["Content-Type"] == "text/html;charset=utf-8"
        assert b"<script>" not in answer.body
        assert b"style=" not in answer.body
        assert b"onclick" not in answer.body

    @pytest.mark.parametrize(
        ("path", "media_type"),
        [("/", "text/html"), ("/static/app.js", "text/javascript"), ("/static/app.css", "text/css")],
    )
    def test_files_are_asked_for_by_tag(self, client, path, media_type):
        answer = client("GET", path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(media_type)
        assert answer.headers["Cache-Control"] == "no-cache"
        again = client("GET", path, If_None_Match=answer.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
        assert client("GET", path, If_None_Match="nonsense").status == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/static",
            "/static/",
            "/static/../page.py",
            "/static/%2e%2e/page.py",
            "/static/%2Fetc%2Fpasswd",
            "/favicon.ico",
            "/x<b>",
        ],
    )
    def test_other_paths_are_404(self, client, path):
        assert_problem(client("GET", path), 404)
        answer = client("GET", path, Accept="text/html")
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "text/html;charset=utf-8"
        assert b"Back to the notes" in answer.body
        assert b"CherryPy" not in answer.body
        assert b"<b>" not in answer.body

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_the_page_is_only_read(self, client, method):
        answer = client(method, "/")
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"
