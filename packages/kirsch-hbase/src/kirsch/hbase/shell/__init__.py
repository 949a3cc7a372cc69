"""Shell for HBase on the bus: a Python interpreter with the commands of HBase's own shell (`kirsch hbase
shell`)."""

from kirsch.hbase.shell.main import JAVA_OPTIONS, Options, run

__all__ = ["JAVA_OPTIONS", "Options", "run"]
