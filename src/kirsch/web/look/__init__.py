"""The look of kirsch's examples, for pages that have none of their own: `look.css`, for Static to serve.

It sets colours by day and by night (`--paper`, `--ink`, `--cherry` and others), types, and classes: `.column`
on body (its bar, main and footer one below the other), `.button`, `.card`, `.fault`, `.skip`, `.unseen`.
"""

from importlib.resources import files

LOOK = files(__name__)
