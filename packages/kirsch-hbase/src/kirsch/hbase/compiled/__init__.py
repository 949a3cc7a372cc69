"""What `kirsch.hbase.cell` has for each cell of a scan, in Cython: structure and names are its."""

from kirsch.hbase.compiled.block import decode_rows

__all__ = ["decode_rows"]
