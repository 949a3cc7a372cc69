"""A balancer of an application here, whose servers stand in HAProxy's file by the variables of links."""

import http.client
import json
import shutil

import pytest
from tests.cli.application import Application, wait_for
from tests.port import free_port

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="haproxy is not installed"
    ),
]

# The lines of the article's, and what they need around them.
CONFIGURATION = """\
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
frontend web
    bind 127.0.0.1:{port}
    default_backend notes
backend notes
    balance roundrobin
    server n1 "${{N1_PORT_8080_TCP_ADDR}}:${{N1_PORT_8080_TCP_PORT}}" check
    server n2 "${{N2_PORT_8080_TCP_ADDR}}:${{N2_PORT_8080_TCP_PORT}}" check
"""


@pytest.mark.slow
def test_a_configuration_with_the_variables_of_links_works_unchanged(application: Application):
    port = free_port()
    (application.directory / "haproxy.cfg").write_text(CONFIGURATION.format(port=port))
    for name in ("notes@1.service", "notes@2.service"):
        application.server(name)
    application.unit(
        "lb.service",
        """
        [Service]
        Type=notify
        ExecStart=kirsch balancer --config haproxy.cfg
        [X-Kirsch]
        Link=notes@1.service:n1 notes@2.service:n2
        """,
    )
    application.ok("up", "-d")

    def unit() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return json.loads(answer.read())["KIRSCH_UNIT"] if answer.status == 200 else ""
        finally:
            connection.close()

    wait_for(lambda: {unit() for _ in range(4)} == {"notes@1.service", "notes@2.service"}, "both answer")
