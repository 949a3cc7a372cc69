"""Services of an application, as converters to other systems see them. Pure."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kirsch.cluster.application import Application
from kirsch.cluster.balancer.config import SECTION
from kirsch.cluster.model import Endpoint
from kirsch.cluster.model.links import exposed_environment, targets
from kirsch.unit import Link, Options, UnitFile, UnitName, expand, split_words

# What images begin with that an application builds itself.
LOCAL = "localhost/"
# Where a container finds its secrets, and a balancer's haproxy.cfg.
CREDENTIALS = "/run/secrets"
CONFIGURATION = "/usr/local/etc/haproxy/exported.cfg"


@dataclass(slots=True)
class Service:
    """One service of the application: its units that are started, and what their file says."""

    name: str
    units: list[UnitName]
    file: UnitFile
    options: Options
    remarks: list[str] = field(default_factory=list)

    @property
    def unit(self) -> UnitName:
        """The unit that stands for all instances."""
        return self.units[0]

    @property
    def volumes(self) -> list[tuple[str, str, bool]]:
        """Named volumes: name, path in the container, read-only."""
        return [each for each in self.mounts if each[0] and not each[0].startswith(("/", "."))]

    @property
    def volume_names(self) -> list[str]:
        """Names of the volumes that it mounts, each once."""
        return list(dict.fromkeys(host for host, _, _ in self.volumes))

    @property
    def mounts(self) -> list[tuple[str, str, bool]]:
        """Everything that Volume= mounts: volume or path of the machine (empty for a volume without a name),
        path in the container, read-only."""
        found = []
        for entry in self.file.values("Container", "Volume"):
            host, colon, rest = entry.value.partition(":")
            if not colon:
                host, rest = "", host
            path, _, options = rest.partition(":")
            found.append((host.removesuffix(".volume"), path, "ro" in options.split(",")))
        return found

    def texts(self, name: str, section: str = "Container") -> list[str]:
        """The values of a directive, specifiers expanded as for the first unit."""
        return [expand(entry.value, self.unit) for entry in self.file.values(section, name)]

    def last(self, name: str, default: str = "", section: str = "Container") -> str:
        """The last value of a directive."""
        return (self.texts(name, section) or [default])[-1]

    @property
    def arguments(self) -> list[str]:
        """The words of Exec=, a dollar sign where systemd has two."""
        return [word.replace("$$", "$") for word in split_words(self.last("Exec"))]

    @property
    def port_names(self) -> dict[tuple[int, str], str]:
        """Names of the exposed ports, each once, as Kubernetes takes them; empty for a port without one."""
        named: dict[tuple[int, str], str] = {}
        for port in self.options.expose:
            name = dns_name(port.name)[:15].strip("-") if port.name else ""
            taken = name in named.values()
            named[port.number, port.protocol] = name if re.search("[a-z]", name) and not taken else ""
        return named

    @property
    def backends(self) -> list[tuple[str, str, str]]:
        """Backends of a unit that runs `kirsch balancer`: backend, service and port, which may be a name."""
        words = self._process()
        if words[:2] != ["kirsch", "balancer"]:
            return []
        named = [words[index + 1] for index, word in enumerate(words[:-1]) if word == "--backend"]
        parts = [(name.partition("=")[0], name.partition("=")[2]) for name in named]
        return [(backend, where.partition(":")[0], where.rpartition(":")[2]) for backend, where in parts]

    @property
    def balancer_file(self) -> str:
        """Path of the balancer's haproxy.cfg in the application's folder; empty if it is no balancer."""
        words = self._process()
        named = [words[index + 1] for index, word in enumerate(words[:-1]) if word == "--config"]
        return named[-1] if named and self.backends else ""

    def _process(self) -> list[str]:
        return shlex.split(self.last("ExecStart", section="X-Kirsch-Process"))

    def endpoint(self, address: str) -> Endpoint:
        """One endpoint at an address, which stands for all instances."""
        return Endpoint(
            service=self.unit.service,
            unit=self.unit.text,
            slot="-",
            machine="",
            address=address,
            ports=self.options.expose,
            ready=True,
            env=exposed_environment(self.file, self.options),
        )

    def on(self, name: str) -> bool:
        """True if a directive is switched on."""
        return self.last(name).lower() in ("true", "yes", "on", "1")


def services_of(application: Application) -> Iterator[Service]:
    """The services that are started, each after those it links to."""
    found: dict[tuple[str, str], Service] = {}
    for text in application.start:
        name = UnitName.parse(text)
        template = f"{name.service}@.{name.type}" if name.instance else text
        source = application.units.get(text) or application.units[template]
        key = (name.service, name.type)
        if key in found:
            found[key].units.append(name)
            continue
        file = UnitFile.parse(source, application.files.get(text) or application.files.get(template, text))
        found[key] = Service(dns_name(name.service), [name], file, Options.parse(file, name))
    done: list[Service] = []

    def add(service: Service, above: tuple[Service, ...]) -> None:
        for other in found.values():
            if other not in done and other not in (*above, service) and links_between(service, other):
                add(other, (*above, service))
        if service not in done:
            done.append(service)

    for service in found.values():
        add(service, ())
    yield from done


def links_between(service: Service, other: Service) -> list[Link]:
    return [link for link in service.options.links if any(targets(link, unit) for unit in other.units)]


def aliases_of(service: Service, services: list[Service]) -> list[str]:
    """The names by which links of other services know this one, beside its own, in order."""
    return sorted(
        {link.alias for other in services for link in links_between(other, service)} - {service.name}
    )


def with_servers(
    text: str, balancer: Service, services: list[Service], name: Callable[[str], str] = str
) -> str:
    """Return a haproxy.cfg whose backends find their servers by DNS, every instance behind one name: the
    service's, or what `name` makes of it."""
    lines = []
    for line in text.splitlines():
        lines.append(line)
        if not (section := SECTION.match(line)):
            continue
        for backend, target, port in balancer.backends:
            other = next((each for each in services if each.unit.service == target), None)
            if backend != section[1] or other is None:
                continue
            number = next((p.number for p in other.options.expose if port in (p.name, str(p.number))), port)
            found = f"{target}- {len(other.units)} {name(other.name)}:{number}"
            lines.append(f"    server-template {found} check resolvers names init-addr last,libc,none")
    resolvers = [
        "",
        "# Names of containers, asked again and again: instances come and go.",
        "resolvers names",
    ]
    return "\n".join([*lines, *resolvers, "    parse-resolv-conf", ""])


def dns_name(text: str) -> str:
    """A name as DNS and Kubernetes have them (RFC 1123)."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63] or "x"
