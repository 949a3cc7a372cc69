"""kirsch: from one process to a cluster, one bus."""

__version__ = "0.1.0.dev0"
