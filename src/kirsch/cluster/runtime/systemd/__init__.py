"""Units and Quadlets as units of systemd, which run on when kirschd does not."""
