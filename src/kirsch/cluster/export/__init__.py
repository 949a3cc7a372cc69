"""Ways out: an application's unit files written for other systems. Pure: text in, text out."""
