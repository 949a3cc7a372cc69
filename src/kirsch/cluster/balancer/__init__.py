"""A balancer: HAProxy, whose servers are the ready endpoints of the cluster's services."""
