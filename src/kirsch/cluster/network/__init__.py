"""The flat network: containers of all machines in one subnet, each unit with one address for life."""
