"""Bulk load: rows written as HFiles in this process, and the files handed to the region servers.

By HBase's public HFileOutputFormat2 and BulkLoadHFiles, which the jars of kirsch.hbase.jars.bulk have.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kirsch.hbase.block_transfer import cell_writer
from kirsch.hbase.compiled import put
from kirsch.hbase.errors import Invalid, NoJars
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.mutation import block, settings
from kirsch.hbase.writes import BYTES, MOST

if TYPE_CHECKING:
    from kirsch.hbase.table import Table

# Of FileOutputFormat and HFileOutputFormat2.
_OUTPUT = "mapreduce.output.fileoutputformat.outputdir"
_TABLE = "hbase.mapreduce.hfileoutputformat.table.name"
# Writers would look for each row's region first: the files are sorted into regions when they are loaded.
_LOCALITY = "hbase.bulkload.locality.sensitive.enabled"


def load(
    table: "Table[Any, Any]",
    rows: Iterable[tuple[Any, Mapping[Any, Any]]],
    folder: str | Path,
    timestamp: int | None,
    timeout: float,
) -> int:
    """Write rows to HFiles below `folder`, load them, remove what is left, and return the number of rows."""
    call, configuration = table.connection.call, table.connection.configuration
    where = f"{folder if '://' in str(folder) else Path(folder).absolute().as_uri()}/kirsch-{uuid4().hex}"
    path = cls("org.apache.hadoop.fs.Path")(where)
    try:
        tool, output = hbase("tool.BulkLoadHFiles"), hbase("mapreduce.HFileOutputFormat2")
    except NoJars:
        raise NoJars(
            "a bulk load needs more than the client's jars, the jars of kirsch.hbase.jars.bulk: "
            "connect(jars=jars.fetch(jars.bulk(), print)), or set HBASE_HOME"
        ) from None
    files = call(path.getFileSystem, configuration)
    try:
        with _writer(table, where, output()) as write:
            count = _written(table, rows, timestamp, lambda data: call(write, data))
        if count:
            call(
                tool.create(configuration).bulkLoad,
                hbase("TableName").valueOf(table.name),
                path,
                timeout=timeout,
            )
    finally:
        call(files.delete, path, True)
    return count


@contextmanager
def _writer(table: "Table[Any, Any]", where: str, output: Any) -> Iterator[Callable[[bytes], None]]:
    """Give a function that writes blocks of puts to HFiles, one or more for each family."""
    call, mapreduce = table.connection.call, "org.apache.hadoop.mapreduce"
    job = cls(f"{mapreduce}.Job").getInstance(table.connection.configuration)
    # Compression, Bloom filters and block sizes are those of the table.
    output.configureIncrementalLoadMap(job, call(lambda: table.java.getDescriptor()))
    configuration = job.getConfiguration()
    for name, value in ((_OUTPUT, where), (_TABLE, table.name), (_LOCALITY, "false")):
        configuration.set(name, value)
    context = cls(f"{mapreduce}.task.TaskAttemptContextImpl")(
        configuration, cls(f"{mapreduce}.TaskAttemptID")()
    )
    writer = call(output.getRecordWriter, context)
    try:
        yield cell_writer(writer)
    finally:
        call(writer.close, context)
    committer = output.getOutputCommitter(context)
    call(committer.commitTask, context)
    call(committer.commitJob, context)


def _written(
    table: "Table[Any, Any]",
    rows: Iterable[tuple[Any, Mapping[Any, Any]]],
    timestamp: int | None,
    write: Callable[[bytes], None],
) -> int:
    """Write rows, and return their number. Raises Invalid for a row that is out of order."""
    encoder, whole = table.encoder, settings(timestamp)
    actions: list[bytes] = []
    count = size = 0
    last = b""
    for row, values in rows:
        key = encoder.key(row)
        if key <= last:
            raise Invalid(
                f"rows to be loaded are sorted by their keys' bytes, and each is there once: {key!r} comes "
                f"after {last!r}"
            )
        last = key
        action = put(key, sorted(encoder.encoded(values)), whole)
        actions.append(action)
        count += 1
        size += len(action)
        if size >= BYTES or len(actions) >= MOST:
            write(block(actions))
            actions, size = [], 0
    if actions:
        write(block(actions))
    return count
