"""A balancer: HAProxy, whose servers are the ready endpoints of the cluster's services."""

from kirsch.cluster.balancer.command import balance, main
from kirsch.cluster.balancer.plan import Backend, BalancerError, plan

__all__ = ["Backend", "BalancerError", "balance", "main", "plan"]
