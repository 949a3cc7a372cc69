"""The notes' figures, on an instance's own address."""

import pytest
from tests.deadline import eventually

pytestmark = pytest.mark.services


def test_requests_and_the_pool_are_told(client):
    note = client.write("for the figures")
    client("GET", f"/api/notes/{note['id']}")
    client("GET", "/api/notes")
    asked = (("/api/notes", "GET", 200), ("/api/notes/{}", "GET", 200), ("/api/notes", "POST", 201))
    counted = [
        f'http_request_duration_seconds_count{{method="{method}",route="{route}",status="{status}"}}'
        for route, method, status in asked
    ]
    # A request is counted once it is answered.
    eventually(lambda: all(line in client("GET", "/metrics").body.decode() for line in counted))
    text = client("GET", "/metrics").body.decode()
    assert "\nsql_pool_size 11.0\n" in text
    assert "\nsql_pool_waits_total 0.0\n" in text
    assert "\nprocess_cpu_seconds_total " in text
