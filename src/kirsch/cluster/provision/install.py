"""How kirsch comes onto a machine: scripts for its shell, the same for containers and for hosts. Pure.

Wheels need no pip that is there already: pip's own wheel is among them, and runs from its archive.
"""

from kirsch.cluster.provision.settings import HOME

# Where wheels lie until they are installed.
WHEELS = "/opt/kirsch-wheels"
PIP = f"{HOME}/share/pip.whl"
_PIP_INSTALL = (
    f"{HOME}/bin/python {PIP}/pip install --quiet --no-index --no-deps --force-reinstall "
    "--no-warn-script-location --disable-pip-version-check --root-user-action=ignore"
)

# A virtual environment of the wheels in WHEELS, which are gone afterwards. In Debian the module venv comes
# with Python itself, only ensurepip does not.
LIBRARIES = (
    f"set -e; python3 -m venv --without-pip --clear {HOME}; mkdir -p {HOME}/share; "
    f"mv {WHEELS}/pip-*.whl {PIP}; {_PIP_INSTALL} {WHEELS}/*.whl; rm -rf {WHEELS}"
)


def own(wheel: str) -> str:
    """kirsch's own wheel, of this file name, read from the standard input."""
    return (
        f"set -e; mkdir -p {WHEELS}; cat > {WHEELS}/{wheel}; {_PIP_INSTALL} {WHEELS}/{wheel}; rm -rf {WHEELS}"
    )


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


def start(unit: str) -> str:
    """Start a unit of Type=notify, now and at every boot; fails with its own last words."""
    # enable says on standard error where it made a link, start where to look for what went wrong.
    started = f"systemctl enable --quiet {unit} && systemctl start {unit} 2>/dev/null"
    return f"systemctl daemon-reload; {started} && exit 0; {_LAST_WORDS.format(unit=unit)}"
