"""Installation of kirsch on a machine: scripts for its shell, the same for containers and for hosts. Pure.

The machine needs no pip: pip's own wheel is among those it is given, and runs from its archive.
"""

import shlex

from kirsch.cluster.provision.settings import (
    ETCD_DATA,
    ETCD_DEFAULTS,
    ETCD_FOLDER,
    ETCD_UNIT,
    FOLDER,
    HOME,
    TLS,
    UNIT,
)

# Where wheels lie until they are installed, and their digests beside them.
WHEELS = "/opt/kirsch-wheels"
DIGESTS = "SHA256SUMS"
CHECK = f"set -e; cd {WHEELS}; sha256sum --check --quiet --strict {DIGESTS}; cd /"
PIP = f"{HOME}/share/pip.whl"
_PIP_INSTALL = (
    f"{HOME}/bin/python {PIP}/pip install --quiet --no-index --no-deps --force-reinstall "
    "--no-warn-script-location --disable-pip-version-check --root-user-action=ignore"
)

# A virtual environment of the wheels in WHEELS, which are gone afterwards. In Debian the module venv comes
# with Python itself, only ensurepip does not.
LIBRARIES = (
    f"{CHECK}; python3 -m venv --without-pip --clear {HOME}; mkdir -p {HOME}/share; "
    f"mv {WHEELS}/pip-*.whl {PIP}; {_PIP_INSTALL} {WHEELS}/*.whl; rm -rf {WHEELS}"
)
# The Debian package (`make deb`), alone in WHEELS. A link leads from HOME to its environment.
PACKAGED = "/usr/lib/kirsch"
# There if the package came with the cluster, and goes with it.
_ADDED = f"{PACKAGED}/share/added"
PACKAGE = (
    f"{CHECK}; new=yes; ! dpkg --status kirsch >/dev/null 2>&1 || new=; "
    f"if ! said=$(dpkg --install {WHEELS}/*.deb 2>&1); then "
    'test -z "$new" || dpkg --purge kirsch >/dev/null 2>&1; '
    "printf '%s\\n' \"$said\" | grep -m 1 -E 'depends on|does not match|not installable' >&2; exit 1; fi; "
    f'test -z "$new" || touch {_ADDED}; rm -rf {HOME}; ln -s {PACKAGED} {HOME}; rm -rf {WHEELS}'
)
# kirsch's own wheels, alone in WHEELS, besides.
OWN = f"{CHECK}; {_PIP_INSTALL} {WHEELS}/kirsch*.whl; rm -rf {WHEELS}"


# What a unit of ours that does not start said last, for the one line that a person reads: systemd's lines are
# left out; kirschd's begin with time, level and logger; etcd's are JSON.
_LAST_WORDS = r"""
    journalctl --unit={unit} --boot --lines=40 --output=cat --no-pager |
    grep --invert-match --extended-regexp '^({unit}|Started|Starting|Stopped|Failed)[:. ]' |
    sed --regexp-extended -e 's/^[0-9T:.+-]+ (ERROR|CRITICAL) [a-z._]+: //' \
        -e 's/.*"level":"(fatal|error)".*"error":"([^"]*)".*/\2/' |
    tail --lines=1 >&2
    exit 1
"""


def start(unit: str, verb: str = "start") -> str:
    """Start a unit of Type=notify, now and at every boot, or restart it; fails with its own last words."""
    # enable says on standard error where it made a link, start where to look for what went wrong.
    started = f"systemctl enable --quiet {unit} && systemctl {verb} {unit} 2>/dev/null"
    return f"systemctl daemon-reload; {started} && exit 0; {_LAST_WORDS.format(unit=unit)}"


# An upgrade: the environment that is to come and the one that was, beside the one that runs, each with the
# text of its kirschd.service, and the mark of the wheels that it was made from.
_NEXT, _BEFORE = f"{HOME}.next", f"{HOME}.before"
_UNIT_TEXT, _MARK = "share/kirschd.service", "share/wheels"
# Two renames may have been cut short by a loss of power.
_HEAL = f"test -d {HOME} || mv {_BEFORE} {HOME}"
INSTALLED = (
    f"{_HEAL}; {HOME}/bin/python -c "
    "'from importlib.metadata import version; print(version(\"kirsch\"))' && "
    f"cat {HOME}/{_MARK} 2>/dev/null || :"
)
# Scripts in bin/ name the folder that pip ran in, and the folder is renamed.
PREPARE = (
    f"{CHECK}; rm -rf {_NEXT}; python3 -m venv --without-pip {_NEXT}; mkdir -p {_NEXT}/share; "
    f"mv {WHEELS}/pip-*.whl {_NEXT}/share/pip.whl; "
    f"{_PIP_INSTALL.replace(HOME, _NEXT)} {WHEELS}/*.whl; "
    f"mv {WHEELS}/kirschd.service {_NEXT}/{_UNIT_TEXT}; mv {WHEELS}/mark {_NEXT}/{_MARK}; rm -rf {WHEELS}; "
    f"grep -lI '^#!{_NEXT}/' {_NEXT}/bin/* | xargs -r sed -i '1s|{_NEXT}/|{HOME}/|'"
)
RESTART = start("kirschd.service", "restart")
EXCHANGE = (
    f"set -e; test -d {_NEXT}; rm -rf {_BEFORE}; cp {UNIT} {HOME}/{_UNIT_TEXT}; "
    f"mv {HOME} {_BEFORE}; mv {_NEXT} {HOME}; cp {HOME}/{_UNIT_TEXT} {UNIT}; {RESTART}"
)
DISCARD = f"rm -rf {_NEXT} {WHEELS}"
FINISH = f"{DISCARD} {_BEFORE}"
# Run again what ran before, where an upgrade has not been finished.
GO_BACK = (
    f"{_HEAL}; test -d {_BEFORE} || exit 0; set -e; rm -rf {_NEXT}; mv {HOME} {_NEXT}; mv {_BEFORE} {HOME}; "
    f"cp {HOME}/{_UNIT_TEXT} {UNIT}; {RESTART}"
)


# A tar archive on the standard input, unpacked by what every machine has: Python.
_UNPACK = """
import sys, tarfile
trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
tarfile.open(fileobj=sys.stdin.buffer, mode="r|").extractall("/", **trusted)
"""
UNPACK = f"exec python3 -c {shlex.quote(_UNPACK)}"

# All of kirsch goes: units that it runs, its files, what it remembers. Volumes of units are people's data.
LEAVE = (
    "systemctl disable --quiet --now kirschd.service 2>/dev/null; "
    f"test ! -x {HOME}/bin/kirschd || {HOME}/bin/python -m kirsch.cluster.provision.leave; "
    f"test ! -e {_ADDED} || dpkg --purge kirsch >/dev/null 2>&1; "
    f"rm -rf {HOME} {WHEELS} {FOLDER} {UNIT} /var/lib/kirsch /run/kirsch; "
    # Trust in the cluster's registry, and the folders that it leaves empty.
    "rm -f /etc/containers/registries.conf.d/50-kirsch.conf; "
    f"test ! -d /etc/containers/certs.d || {{ find /etc/containers/certs.d -lname '{TLS}/*' -delete; "
    "find /etc/containers/certs.d -type d -empty -delete; }; "
    "systemctl daemon-reload; systemctl reset-failed kirschd.service 2>/dev/null || :"
)


# A machine that keeps the registry no more.
WITHOUT_ETCD = (
    f"test ! -e {ETCD_FOLDER}/kirsch.conf || {{ systemctl disable --quiet --now {ETCD_UNIT}; "
    f"rm -rf {ETCD_DATA} {ETCD_DEFAULTS} {ETCD_FOLDER} {TLS}/ca.key {TLS}/revoked.crl; "
    "systemctl daemon-reload; }"
)


def authorize(user: str, line: str) -> str:
    """Let a key come in as a user: a line of authorized_keys, there once."""
    file, quoted = f"~{user}/.ssh/authorized_keys", shlex.quote(line)
    return (
        f"set -e; mkdir -p -m 0700 ~{user}/.ssh; touch {file}; chmod 0600 {file}; "
        f"chown {user}: ~{user}/.ssh {file}; grep --quiet --line-regexp --fixed-strings {quoted} {file} || "
        f"{{ test -z \"$(tail --bytes=1 {file})\" || echo >> {file}; printf '%s\\n' {quoted} >> {file}; }}"
    )


def unauthorize(user: str, line: str) -> str:
    """Remove a line from a user's authorized_keys."""
    file = f"~{user}/.ssh/authorized_keys"
    others = f"grep --invert-match --line-regexp --fixed-strings {shlex.quote(line)} {file}"
    return f"test ! -f {file} || {{ {others} > {file}.new; cat {file}.new > {file}; rm {file}.new; }}"
