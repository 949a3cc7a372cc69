"""A container that serves, of what every machine has itself."""

# An image of the machine's own Python.
IMAGE = """\
podman image exists flat:1 && exit
set -e
cd $(mktemp -d)
libraries=$(ldd /usr/bin/python3 /usr/lib/python3*/lib-dynload/*.so | grep -o '/[^ ]*[.]so[^ ]*' | sort -u)
tar -c --dereference /usr/bin/python3 /usr/lib/python3.* $libraries 2>/dev/null |
    podman import --quiet - flat:1 >/dev/null
"""
# Who asks for /etc/hostname is told which container answers.
SERVES = "Image=localhost/flat:1\nPull=never\nExec=python3 -m http.server 8080 --directory /\n"
WEB = f"[Container]\n{SERVES}[Service]\nTimeoutStopSec=3\n[X-Kirsch]\nExpose=8080\nHealth=tcp://:8080\n"
ASK = (
    "import urllib.request as r; print(r.urlopen('http://%s:8080/etc/hostname', timeout=%d).read().decode())"
)
