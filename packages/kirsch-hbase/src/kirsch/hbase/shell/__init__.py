"""A shell for HBase on the bus: a Python interpreter with every command of HBase's own shell (`kirsch hbase "
"shell`)."""

from kirsch.hbase.shell.main import JAVA_OPTIONS, Options, connector, run

__all__ = ["JAVA_OPTIONS", "Options", "connector", "run"]
