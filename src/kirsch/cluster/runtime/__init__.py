"""Runtimes run units on one machine: as plain processes, or by systemd and Podman."""
