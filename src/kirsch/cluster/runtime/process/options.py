"""What of a unit's options a plain process cannot have: said when the unit is submitted. Pure."""

from kirsch.unit import Options, UnitFile

LOCAL = (None, "127.0.0.1", "0.0.0.0")  # noqa: S104 the words of a unit file; nothing is bound to them


def check_options(file: UnitFile, options: Options) -> list[str]:
    """Warnings for what differs from a container's. Raises UnitError for what cannot be had."""
    for port in options.published:
        if port.host != port.container:
            raise file.error(
                f"PublishPort={port.host or ''}:{port.container}: a process has no ports but its own; "
                f"write {port.container}:{port.container}",
                port.entry,
            )
    for secret in options.secrets:
        if not secret.env:
            raise file.error(
                f"Secret={secret.name}: a process gets a secret as a variable; write {secret.name}:VARIABLE",
                file.get("X-Kirsch", "Secret"),
            )
    return [
        str(file.error(f"PublishPort={port.host_ip}:…: a process publishes on 127.0.0.1", port.entry))
        for port in options.published
        if port.host_ip not in LOCAL
    ]
