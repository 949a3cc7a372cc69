"""Secrets: names with values that only the units that ask for them are given."""

from kirsch.cluster.secrets.base import (
    MAX_SIZE,
    Login,
    SecretError,
    Secrets,
    checked_value,
    made_up,
    variable,
)
from kirsch.cluster.secrets.files import FileSecrets
from kirsch.cluster.secrets.sealed import SealedSecrets

__all__ = [
    "MAX_SIZE",
    "FileSecrets",
    "Login",
    "SealedSecrets",
    "SecretError",
    "Secrets",
    "checked_value",
    "made_up",
    "variable",
]
