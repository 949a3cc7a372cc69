"""The registry on etcd, 3.4 or newer: for clusters of machines. Needs the extra `machines`."""

from kirsch.cluster.registry.etcd.registry import EtcdRegistry

__all__ = ["EtcdRegistry"]
