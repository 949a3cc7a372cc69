"""Checking a unit file without submitting it: whatever can be said of it alone."""

from collections.abc import Callable

from kirsch.unit import Options, UnitFile, UnitName

Check = Callable[[UnitName, UnitFile], list[str]]


def verify(name: str, data: bytes | str, file: str, check: Check) -> list[str]:
    """A unit's warnings: what the runtime, by its `check`, would not honour. `file` is how messages name it.

    Raises UnitError for a name or a file that would be refused.
    """
    parsed = UnitName.parse(name)
    # A template is checked as an instance of it: better now than at its start.
    instance = parsed.with_instance("1") if parsed.is_template else parsed
    unit = UnitFile.parse(data, file)
    Options.parse(unit, instance)
    return check(instance, unit)
