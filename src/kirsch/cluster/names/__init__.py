"""Names of units and services, answered on each machine by a dnsmasq of the cluster's own."""

from kirsch.cluster.names.records import DOMAIN
from kirsch.cluster.names.server import Names, available

__all__ = ["DOMAIN", "Names", "available"]
