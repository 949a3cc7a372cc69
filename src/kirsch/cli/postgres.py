"""postgres: the main process of a unit that is a database."""

from kirsch.cli.completion import files
from kirsch.cli.verb import Options, argument, verb
from kirsch.install import pip_install


@verb(
    "postgres",
    argument(
        "arguments",
        "ARGUMENT",
        "PostgreSQL's own, such as -c shared_buffers=1GB",
        many=True,
        optional=True,
        complete=files,
    ),
    rest=True,
    text="It makes the database if there is none, then becomes the server. Its environment is that of "
    "docker's official image: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, PGDATA, PGPORT. It needs "
    f"`{pip_install('kirsch[postgres]')}`, or KIRSCH_POSTGRES_BIN with the folder of PostgreSQL's programs.",
    example="POSTGRES_PASSWORD=secret kirsch postgres",
)
def postgres(options: Options) -> int:
    """Make the database if there is none, and become the server."""
    from kirsch.sql.postgres.__main__ import main

    return main(options.arguments)
