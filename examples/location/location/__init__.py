"""Where am I: CherryPy on a phone, as the article has it, for today."""
