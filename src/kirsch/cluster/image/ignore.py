"""What stays out of a build: .containerignore, and kirsch's own state. See containerignore(5)."""

from pathlib import Path

from kirsch.cluster.image.text import text_of

# As podman looks for it: one of the Containerfile's own before one of the folder's.
ENDINGS = (".containerignore", ".dockerignore")
# Secrets lie there, and sockets, where an application was up.
STATE = ".kirsch"


def excluded(context: Path, file: Path) -> str:
    """The patterns of what stays out, for podman. Raises ImageError."""
    names = [file.with_name(file.name + ending) for ending in ENDINGS] + [context / name for name in ENDINGS]
    own = next((path for path in names if path.is_file()), None)
    return patterns(text_of(own) if own else "")


def patterns(text: str) -> str:
    """The same patterns, as every podman understands them, and one that nothing takes back. Pure.

    podman 4 keeps a line's last blanks (of a file from Windows, its CR), and the first slash after a !."""
    lines = [line.strip() for line in text.splitlines()]
    plain = [f"!{line[1:].lstrip(' /')}" if line.startswith("!") else line for line in lines]
    return "\n".join([*plain, f"**/{STATE}", ""])
