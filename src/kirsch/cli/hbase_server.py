"""hbase server: a standalone HBase. hbase jars: HBase's jars into the cache."""

import argparse
import json

from kirsch.cli.errors import Failure


def server(options: argparse.Namespace) -> int:
    """Run a standalone HBase until Ctrl-C."""
    _extra()
    from kirsch.hbase.errors import HBaseError
    from kirsch.hbase.server import default_folder, run
    from kirsch.hbase.server_settings import Settings

    try:
        settings = Settings(
            options.directory or default_folder(),
            options.address,
            options.port,
            options.memory,
            options.access,
            options.labels,
            options.superuser,
            options.groups,
            dict(options.set),
            java=options.java_option,
        )
        return run(settings, options.version, verbose=options.verbose)
    except HBaseError as error:
        raise Failure(str(error)) from None


def jars(options: argparse.Namespace) -> int:
    """Fetch HBase's jars."""
    _extra()
    from kirsch.hbase import archive, jars
    from kirsch.hbase.errors import HBaseError

    sets = [jars.client(options.version)]
    if options.server:
        sets.append(jars.server(options.version))
    try:
        found = {one.name: jars.fetch(one, _say) for one in sets}
        archive.make(found[sets[0].name], _say)
    except HBaseError as error:
        raise Failure(str(error)) from None
    if options.json:
        print(json.dumps({name: [str(path) for path in paths] for name, paths in found.items()}, indent=2))
    elif options.class_path:
        print(":".join(str(path) for paths in found.values() for path in paths))
    else:
        for paths in found.values():
            size = sum(path.stat().st_size for path in paths) // 1_000_000
            print(f"{len(paths)} jars, {size} MB, in {paths[0].parent}")
        if options.version != jars.VERSION:
            print(f"connect takes them with KIRSCH_HBASE_VERSION={options.version}")
    return 0


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr, flush=True)


def _extra() -> None:
    try:
        import kirsch.hbase  # noqa: F401
    except ImportError as error:
        raise Failure(str(error)) from None
