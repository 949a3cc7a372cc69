"""Namespaces: groups of tables."""

from collections.abc import Mapping
from typing import Any

from kirsch.hbase.calls import call
from kirsch.hbase.jvm import hbase
from kirsch.hbase.names import namespace_name


class Namespaces:
    """`admin.namespaces`."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def list(self) -> list[str]:
        """Their names, sorted."""
        return sorted(str(name) for name in call(self._java.listNamespaces))

    def create(self, name: str, **configuration: str) -> None:
        """Raises Exists, Invalid."""
        call(self._java.createNamespace, self._descriptor(name, configuration))

    def configuration(self, name: str) -> dict[str, str]:
        """A namespace's settings. Raises NotFound."""
        found = call(self._java.getNamespaceDescriptor, namespace_name(name)).getConfiguration()
        return {str(entry.getKey()): str(entry.getValue()) for entry in found.entrySet()}

    def alter(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Change settings; None removes one. Raises NotFound."""
        merged = {**self.configuration(name), **changes}
        kept = {key: value for key, value in merged.items() if value is not None}
        call(self._java.modifyNamespace, self._descriptor(name, kept))

    def drop(self, name: str) -> None:
        """Delete a namespace, which must be empty. Raises NotFound, Invalid."""
        call(self._java.deleteNamespace, namespace_name(name))

    @staticmethod
    def _descriptor(name: str, configuration: Mapping[str, str]) -> Any:
        builder = hbase("NamespaceDescriptor").create(namespace_name(name))
        for key, value in configuration.items():
            builder.addConfiguration(key, value)
        return builder.build()
