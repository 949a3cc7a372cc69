"""The runtime that runs units as plain processes, without systemd."""
