"""kirschd: a CherryPy process whose bus carries one machine of a cluster, or all there is of `kirsch up`."""

from kirsch.cluster.daemon.command import main

__all__ = ["main"]
