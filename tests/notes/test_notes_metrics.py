"""The notes' figures, on an instance's own address."""

import pytest

pytestmark = pytest.mark.services


def test_requests_and_the_pool_are_told(client):
    note = client.write("for the figures")
    client("GET", f"/api/notes/{note['id']}")
    client("GET", "/api/notes")
    answer = client("GET", "/metrics")
    text = answer.body.decode()
    for route, method, status in (
        ("/api/notes", "GET", 200),
        ("/api/notes/{}", "GET", 200),
        ("/api/notes", "POST", 201),
    ):
        labels = f'method="{method}",route="{route}",status="{status}"'
        assert f"http_request_duration_seconds_count{{{labels}}}" in text
    assert "\nsql_pool_size 11.0\n" in text
    assert "\nsql_pool_waits_total 0.0\n" in text
    assert "\nprocess_cpu_seconds_total " in text
