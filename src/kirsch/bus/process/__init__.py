"""Child processes that leave nothing behind: commands, the shim, the tree below it, restarts, a plugin."""
