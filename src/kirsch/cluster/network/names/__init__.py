"""DNS names of units and services, answered on each machine by a dnsmasq of the cluster's own."""
