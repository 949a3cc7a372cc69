"""Applications for other systems, and from them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Converted:
    """Files by path, in the order in which they are used, and remarks for the person."""

    files: Mapping[str, str]
    remarks: tuple[str, ...]
