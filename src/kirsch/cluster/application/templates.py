"""Small applications for `kirsch init --template`: their files as text."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Template:
    """Code of an application, the packages that it needs, and how it is started."""

    files: Mapping[str, str]
    requirements: tuple[str, ...]
    command: str
    # The path that answers once it is ready.
    ready: str = "/ready"


CHERRYPY = '''\
"""A page of CherryPy's."""

import os

import cherrypy

from visits import visit


class Site:
    @cherrypy.expose
    def index(self):
        return f"Hello from {os.environ.get('KIRSCH_UNIT', 'app.py')}: {visit()}\\n"

    @cherrypy.expose
    def ready(self):
        return "ready"


if __name__ == "__main__":
    server = {
        "server.socket_host": os.environ.get("KIRSCH_ADDRESS", "127.0.0.1"),
        "server.socket_port": 8080,
        "engine.autoreload.on": False,
    }
    cherrypy.quickstart(Site(), "/", {"global": server})
'''
FLASK = '''\
"""A page of Flask's."""

import os

from flask import Flask

from visits import visit

app = Flask(__name__)


@app.get("/")
def index():
    return f"Hello from {os.environ.get('KIRSCH_UNIT', 'app.py')}: {visit()}\\n"
'''
FLASK += """

@app.get("/ready")
def ready():
    return "ready"
"""
FASTAPI = '''\
"""A page of FastAPI's."""

import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from visits import visit

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
def index():
    return f"Hello from {os.environ.get('KIRSCH_UNIT', 'app.py')}: {visit()}\\n"
'''
FASTAPI += """

@app.get("/ready", response_class=PlainTextResponse)
def ready():
    return "ready"
"""
DJANGO = '''\
"""A page of Django's, in one file: `python app.py runserver` serves it."""

import os
import secrets
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

from visits import visit

settings.configure(
    # Sessions last as long as the process: set SECRET_KEY, and they last longer.
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(32),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
)


def index(request):
    return HttpResponse(f"Hello from {os.environ.get('KIRSCH_UNIT', 'app.py')}: {visit()}\\n")


def ready(request):
    return HttpResponse("ready")


urlpatterns = [path("", index), path("ready", ready)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
'''
PAGE = """\
<!doctype html>
<html lang="en">
<title>Hello</title>
<h1>Hello</h1>
<p>This page is public/index.html.</p>
</html>
"""
TEMPLATES = {
    "cherrypy": Template({"app.py": CHERRYPY}, ("cherrypy",), "python app.py"),
    "flask": Template(
        {"app.py": FLASK}, ("flask",), "python -m flask --app app run --host ${KIRSCH_ADDRESS} --port 8080"
    ),
    "django": Template(
        {"app.py": DJANGO}, ("django",), "python app.py runserver --noreload ${KIRSCH_ADDRESS}:8080"
    ),
    "fastapi": Template(
        {"app.py": FASTAPI},
        ("fastapi", "uvicorn"),
        "python -m uvicorn app:app --host ${KIRSCH_ADDRESS} --port 8080",
    ),
    "static": Template(
        {"public/index.html": PAGE},
        (),
        "python -m http.server --directory public --bind ${KIRSCH_ADDRESS} 8080",
        "/",
    ),
}

DATABASE = {
    "none": '''\
"""Visits of this process. With a database they would outlast it: `kirsch init --with postgres`."""

import itertools

_visits = itertools.count(1)


def visit():
    """Count a visit, and say which it is."""
    return f"visit {next(_visits)}"
''',
    "visits.py": '''\
"""Visits, in PostgreSQL: the link to `db` gives its address, the secret its password."""

import os

import psycopg


def visit():
    """Count a visit, and say which it is."""
    with psycopg.connect(
        host=os.environ["POSTGRES_PORT_5432_TCP_ADDR"],
        port=os.environ["POSTGRES_PORT_5432_TCP_PORT"],
        user=os.environ["POSTGRES_ENV_POSTGRES_USER"],
        dbname=os.environ["POSTGRES_ENV_POSTGRES_DB"],
        password=os.environ["POSTGRES_PASSWORD"],
    ) as connection:
        # One instance makes the table, however many start together.
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        connection.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now())")
        connection.execute("INSERT INTO visits DEFAULT VALUES")
        (count,) = connection.execute("SELECT count(*) FROM visits").fetchone()
    return f"visit {count}"
''',
    "unit": """\
[Unit]
Description=PostgreSQL for @NAME@

[Container]
Image=localhost/kirsch/postgres
Environment=POSTGRES_USER=app POSTGRES_DB=app
Volume=@NAME@-db:/var/lib/postgresql/data

[X-Kirsch]
Expose=5432
ExposeEnv=POSTGRES_USER POSTGRES_DB
# A password that kirsch makes at random, and that only units with this line get.
Secret=@NAME@-database:POSTGRES_PASSWORD
Health=tcp://:5432
# Its data lies on the machine it runs on.
Sticky=yes

[X-Kirsch-Process]
# Its data: .kirsch/state/db.
StateDirectory=db
ExecStart=kirsch postgres
KillSignal=SIGINT
KillMode=mixed
TimeoutStopSec=60
""",
}
HAPROXY = {
    "unit": """\
[Unit]
Description=HAProxy before @NAME@

[Container]
Image=localhost/@NAME@-balancer
PublishPort=8080:8080

[X-Kirsch]
Link=web
# It sees which instances are ready, and sends requests to those.
Endpoints=yes
Expose=8080 http
Health=http://:8080@READY@

[X-Kirsch-Process]
Type=notify
ExecStart=kirsch balancer --config haproxy.cfg --backend web=web:http
Restart=on-failure
""",
    "configuration": """\
# The servers of `web` are not here: kirsch balancer adds each instance once it is ready, and takes it
# out before it stops.
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    # A machine that is away is known in a second; an instance may take longer to answer a check.
    timeout check 5s
    retries 3
    retry-on conn-failure empty-response response-timeout
    option redispatch 1

frontend http
    bind "${KIRSCH_ADDRESS}:8080"
    # What may have been done is not asked for again.
    http-request disable-l7-retry unless METH_GET || METH_HEAD
    default_backend web

backend web
    balance roundrobin
    option httpchk GET @READY@
""",
}
