"""Units as plain processes: `kirsch up`, and machines without systemd."""
