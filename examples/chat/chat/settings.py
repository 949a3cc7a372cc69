"""Settings: what the environment says about where to listen and where the broker is."""

from collections.abc import Mapping
from dataclasses import dataclass

from kirsch.amqp import Broker, BrokerError, broker_from
from kirsch.web import SettingsError, Site


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the site listens and how it behaves there, and the broker."""

    site: Site
    broker: Broker

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read them from the variables kirsch and its links give a unit. Raises SettingsError."""
        try:
            return cls(Site.from_environment(environment, "CHAT"), broker_from(environment))
        except BrokerError as error:
            raise SettingsError(str(error)) from None
