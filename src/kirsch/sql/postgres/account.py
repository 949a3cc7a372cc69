"""Whom the server runs as: PostgreSQL refuses root, so root hands it to another account."""

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kirsch.sql.postgres.settings import PostgresError

FALLBACKS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine with its groups; `switch` is False when it is already ours."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    switch: bool

    def run(
        self, argv: Sequence[str], text: bytes = b"", **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program as this account, from /, and return what it wrote and how it ended.

        If we are interrupted, it and what it has started are killed.
        """
        if self.switch:
            options.update(user=self.uid, group=self.gid, extra_groups=self.groups)
        pipe = subprocess.PIPE
        options.update(cwd="/", process_group=0, stdin=pipe, stdout=pipe, stderr=pipe)
        with subprocess.Popen(argv, **options) as process:
            try:
                output, errors = process.communicate(text)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(argv, process.returncode, output, errors)

    def may_enter(self, folder: Path) -> bool:
        """Ask the kernel, which knows ACLs too, if this account may use files below `folder`."""
        return self.run(["test", "-x", str(folder)]).returncode == 0

    def own(self, path: Path) -> None:
        """Give a folder that we made to this account."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def become(self) -> None:
        """Drop root for good."""
        if self.switch:
            os.setgroups(self.groups)
            os.setgid(self.gid)
            os.setuid(self.uid)


def choose_account(wanted: str | None, owner: int | None) -> Account:
    """The account to run as; `owner` is the uid that data already belongs to. Raises PostgresError."""
    if os.geteuid() != 0:
        return _current(wanted, owner)
    entry = _lookup(wanted) if wanted else _by_owner(owner) or _fallback()
    if entry.pw_uid == 0:
        raise PostgresError("PostgreSQL does not run as root: name another user in KIRSCH_POSTGRES_USER")
    if owner not in (None, entry.pw_uid):
        raise PostgresError(
            f"the data belongs to uid {owner}, not to {entry.pw_name}: unset KIRSCH_POSTGRES_USER"
        )
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, switch=True)


def _current(wanted: str | None, owner: int | None) -> Account:
    uid = os.geteuid()
    if wanted and _lookup(wanted).pw_uid != uid:
        raise PostgresError(f"only root can run PostgreSQL as {wanted}: unset KIRSCH_POSTGRES_USER")
    if owner not in (None, uid):
        raise PostgresError(f"the data belongs to uid {owner}, and we run as uid {uid}: run as its owner")
    return Account(str(uid), uid, os.getegid(), (), switch=False)


def _lookup(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise PostgresError(f"KIRSCH_POSTGRES_USER={name}: there is no such user") from error


def _by_owner(owner: int | None) -> pwd.struct_passwd | None:
    if owner is None:
        return None
    try:
        return pwd.getpwuid(owner)
    except KeyError as error:
        raise PostgresError(f"the data belongs to uid {owner}, which no user has: chown it") from error


def _fallback() -> pwd.struct_passwd:
    for name in FALLBACKS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("PostgreSQL does not run as root: name a user for it in KIRSCH_POSTGRES_USER")
