"""cluster backup, restore: a cluster in a file."""

import sys
from datetime import datetime
from pathlib import Path

import click

from kirsch.cli.errors import Failure
from kirsch.cli.names import cluster_name
from kirsch.cli.output import Steps
from kirsch.cli.verb import REPORT, Options, Verb, argument, flag, option

PATH = click.Path(path_type=Path)
PASSPHRASE = option(
    "--passphrase-file", metavar="FILE", type=PATH, help="its first line is the passphrase (asked for)"
)


def backup(options: Options) -> int:
    """Write a backup of a cluster to a file that only its owner can read."""
    from kirsch.cluster.provision.backup import back_up
    from kirsch.cluster.secrets.files import write_file

    cluster = cluster_name(options)
    if options.file.exists():
        raise Failure(f"{options.file} is there: give another name")
    made = back_up(cluster, _passphrase(options, new=True))
    write_file(options.file, made.to_json().encode())
    units = sum("/units/" in key for key in made.entries)
    options.report(cluster=cluster, file=str(options.file), units=units)
    print(
        f"{options.file} has {units} unit{'' if units == 1 else 's'} of {cluster}, its secrets and its keys"
    )
    return 0


def restore(options: Options) -> int:
    """Bring a backup back: its keys to this computer, or its units, secrets and users to a cluster."""
    from kirsch.cluster.node.backup import Backup
    from kirsch.cluster.provision.backup import Restoration, opened, restore_folder

    try:
        found = Backup.parse(options.file.read_text())
    except ValueError as error:
        raise Failure(f"{options.file}: {error}") from None
    files = opened(found, _passphrase(options, new=False) if found.keys else "")
    made = datetime.fromtimestamp(found.made).strftime("%Y-%m-%d %H:%M")
    if options.keys:
        folder = restore_folder(found, files)
        options.report(cluster=found.cluster, folder=str(folder))
        print(f"{folder} has the keys of {found.cluster} as of {made}: kirsch cluster status {found.cluster}")
        return 0
    cluster = cluster_name(options)
    Restoration(cluster, found, files).perform(Steps(sys.stdout))
    options.report(cluster=cluster, restored=found.cluster, made=found.made)
    print(f"\n{cluster} has the units, secrets and users of {found.cluster} as of {made}")
    if not files:
        print("A machine made this backup: secrets open only with the key of the machines that it is of")
    return 0


def _passphrase(options: Options, *, new: bool) -> str:
    if options.passphrase_file is not None:
        text = options.passphrase_file.read_text().split("\n", 1)[0]
    elif not sys.stdin.isatty():
        raise Failure("a passphrase is needed: give --passphrase-file FILE")
    else:
        from getpass import getpass

        text = getpass("Passphrase: ")
        if new and text != getpass("Once more: "):
            raise Failure("the two are not the same")
    if not text:
        raise Failure("the passphrase is empty")
    return str(text)


BACKUP = Verb(
    "backup",
    backup,
    [argument("file", "FILE", "where there is none yet", type=PATH), PASSPHRASE, REPORT],
    summary="write a cluster's registry and keys to a file",
    text="It has units, releases, secrets (sealed), settings of machines and users, and under a passphrase "
    "the keys: the authorities, ssh's and that of secrets. Volumes and images are not in it. Machines that "
    "keep etcd make one without keys each night, and keep three, in /var/lib/kirsch/backups.",
    example="kirsch cluster backup kirsch.backup",
)
RESTORE = Verb(
    "restore",
    restore,
    [
        argument("file", "FILE", "a backup", type=PATH),
        flag("--keys", help="only the keys, to this computer, which does not know the cluster"),
        PASSPHRASE,
        REPORT,
    ],
    summary="bring a backup back onto a cluster without units",
    text="Make a cluster first, with machines of the same names. Units start as they were; sticky ones on "
    "the machine of the same name, without the data of their volumes. Done again it goes on where it ended.",
    example="kirsch cluster restore kirsch.backup",
)
