"""The texts that a build reads itself."""

from pathlib import Path

from kirsch.cluster.image.reference import ImageError


def text_of(path: Path) -> str:
    """A file's text. Raises ImageError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ImageError(f"{path} is no text in UTF-8") from None
