"""Applications from and for other systems. Pure: text in, text out."""
