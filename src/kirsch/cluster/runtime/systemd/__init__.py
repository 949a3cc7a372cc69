"""The runtime of machines with systemd and Podman's Quadlet."""
