"""Contract of what runs units on one machine, and its two implementations: process and systemd."""
