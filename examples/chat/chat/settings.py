"""Settings: what the environment says about where to listen and where the broker is."""

from collections.abc import Mapping
from dataclasses import dataclass

from kirsch.amqp import Broker, BrokerError, broker_from
from kirsch.amqp.overview import SHORTEST
from kirsch.web import SettingsError, Site

VARIABLE = "CHAT_ROOMS_PASSWORD"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the site listens and how it behaves there, the broker, and the password of /rooms."""

    site: Site
    broker: Broker
    rooms_password: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read them from the variables kirsch and its links give a unit. Raises SettingsError."""
        try:
            site, password = Site.from_environment(environment, "CHAT"), environment.get(VARIABLE, "")
            if password and len(password) < SHORTEST:
                raise SettingsError(f"{VARIABLE} has {SHORTEST} characters at least")
            return cls(site, broker_from(environment), password)
        except BrokerError as error:
            raise SettingsError(str(error)) from None
