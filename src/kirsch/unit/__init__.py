"""Unit files: text to values and back. Pure, no I/O."""
