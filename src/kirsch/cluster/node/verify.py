"""Checking unit files without submitting them: what can be said of each alone, and what a cluster's machines
would make of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kirsch.cluster.engine.status import Held, told
from kirsch.cluster.model import Cluster, Unit, UnitRecord
from kirsch.cluster.model.links import circle, exposed_environment, targets
from kirsch.cluster.runtime.known import mistakes
from kirsch.unit import Options, UnitError, UnitFile, UnitName

Check = Callable[[UnitName, UnitFile], list[str]]
# Which of these secrets nobody has set.
Missing = Callable[[Iterable[str]], Iterable[str]]

# What a unit wants of the systemd that runs it, and cannot do without (systemd.unit(5)).
NEEDS = ("Requires", "Requisite", "BindsTo")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a unit: `error` is why it would be refused or no machine can have it, empty where
    neither is so; `warnings` what would not be honoured, or is not there."""

    error: str = ""
    warnings: tuple[str, ...] = ()


def verify(name: str, data: bytes | str, file: str, check: Check) -> list[str]:
    """A unit's warnings: what the runtime, by its `check`, would not honour. `file` is how messages name it.

    Raises UnitError for a name or a file that would be refused.
    """
    unit = _read(name, data, file)
    return [*check(unit.name, unit.file), *_hints(unit)]


def judge(texts: Mapping[str, str], cluster: Cluster, check: Check, missing: Missing) -> dict[str, Verdict]:
    """Return the verdicts of the present machines on units, by their names, were all started now."""
    read, verdicts = dict[str, Unit](), dict[str, Verdict]()
    for name, text in texts.items():
        try:
            unit = _read(name, text, name)
            exposed_environment(unit.file, unit.options)
            verdicts[name] = Verdict(warnings=(*check(unit.name, unit.file), *_hints(unit)))
            read[name] = unit
        except UnitError as error:
            verdicts[name] = Verdict(str(error))
    units = {**cluster.units, **{unit.name: unit for unit in read.values()}}
    waits = Held.of(replace(cluster, units=units)).waits
    links = {name: unit.options.links for name, unit in units.items() if not name.is_template}
    for name, unit in read.items():
        refusals, around = "; ".join(told(waits.get(unit.name, ()))), circle(links, [unit.name])
        words = f"no machine can have it: {refusals}" if refusals else ""
        if unit.name in around:
            words = f"links go in a circle: {' -> '.join(other.text for other in around)}"
        verdicts[name] = Verdict(words, (*verdicts[name].warnings, *_lacks(unit, units, missing)))
    return verdicts


def _read(name: str, data: bytes | str, file: str) -> Unit:
    """A unit that is to run. Of a template it is an instance: better checked now than at its start.

    Raises UnitError also for a section or a directive that nobody knows."""
    parsed = UnitName.parse(name)
    instance = parsed.with_instance("1") if parsed.is_template else parsed
    unit = UnitFile.parse(data, file)
    unit.check_encoding()
    for mistake in mistakes(unit, parsed):
        raise mistake
    return Unit(instance, unit, Options.parse(unit, instance), UnitRecord(unit.hash, "launched"))


def _hints(unit: Unit) -> Iterator[str]:
    """Hint at Sticky= and OnPartition= where a unit keeps data in a named volume and has neither."""
    chosen = unit.options.sticky or unit.options.is_global or unit.file.get("X-Kirsch", "OnPartition")
    for entry in () if chosen else unit.file.values("Container", "Volume"):
        source, _, options = entry.value.partition(":")
        named = options and not source.startswith(("/", ".", "~", "%"))
        if named and "ro" not in options.partition(":")[2].split(","):
            message = (
                f"Volume={entry.value}: each machine has its own {source}: Sticky=yes keeps the unit with "
                "its data; without it a machine that is cut off runs a second one (OnPartition=)"
            )
            yield str(unit.file.error(message, entry))


def _lacks(unit: Unit, units: Mapping[UnitName, Unit], missing: Missing) -> Iterator[str]:
    """Yield what a unit names and is missing, or may be on another machine."""
    there = [name for name in units if not name.is_template and name != unit.name]
    for secret in dict.fromkeys(missing(secret.name for secret in unit.options.secrets)):
        yield f"secret {secret} is not set: kirsch secret set {secret} < FILE"
    for link in unit.options.links:
        linked = [units[name] for name in there if targets(link, name)]
        if not linked:
            yield f"Link={link.text}: there is no unit {link.target}"
        elif link.role and not any(role.name == link.role for each in linked for role in each.options.roles):
            yield f"Link={link.text}: {linked[0].name} has no HealthRole={link.role}"
    for role in unit.options.roles:
        called = f"{unit.name.service}-{role.name}"
        if other := next((name for name in there if name.service == called), None):
            yield f"HealthRole={role.name}: the name {called} leads to {other}: give the role another name"
    for need in NEEDS:
        for word in (word for entry in unit.file.values("Unit", need) for word in entry.value.split()):
            other = next((n for n in there if word in (n.text, f"{n.text.rpartition('.')[0]}.service")), None)
            if other is not None and other.text not in unit.options.machine_of:
                yield f"{need}={word}: it may be on another machine; MachineOf={other} keeps both on one"
