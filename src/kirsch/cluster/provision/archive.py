"""Files of a machine as values, and as the tar archive that carries them there."""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class File:
    """A file by its path from the root, owned by root; a symbolic link if `target` is given."""

    path: str
    content: bytes = field(default=b"", repr=False)
    mode: int = 0o644
    target: str = ""


def archive(files: Iterable[File], private: Iterable[str] = ()) -> bytes:
    """A tar archive of files; folders in `private` are of mode 0700. Other folders on the way are not in it:
    what unpacks makes them, or leaves them as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in private:
            entry = tarfile.TarInfo(folder.strip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(entry)
        for file in files:
            entry = tarfile.TarInfo(file.path.strip("/"))
            entry.mode, entry.size = file.mode, len(file.content)
            if file.target:
                entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, file.target, 0
            tar.addfile(entry, io.BytesIO(file.content))
        end = out.tell() + 2 * tarfile.BLOCKSIZE
    # Without the zeros that fill the last record up: podman cp stops reading at the archive's end, and fails
    # where more follows.
    return out.getvalue()[:end]
