"""Applications for other systems, and from them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Converted:
    """Files by path, in the order in which they are used, and remarks for the person."""

    files: Mapping[str, str]
    remarks: tuple[str, ...]
    # What the files hold, where that is data: Kubernetes' objects, in their order.
    objects: tuple[dict[str, Any], ...] = ()
