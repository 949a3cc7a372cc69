"""namespace: namespaces, which hold tables."""

from typing import Any

from kirsch.hbase.shell.answer import Facts, Names
from kirsch.hbase.shell.command import UsageError, command
from kirsch.hbase.shell.session import Session, text


@command("namespace", keep_hashes=True)
def create_namespace(session: Session, namespace: str, *settings: dict[str, Any], **more: Any) -> None:
    """Make a namespace, with settings if you like.

    create_namespace 'ns1'
    create_namespace 'ns1', {'hbase.namespace.quota.maxtables' => '5'}
    """
    builder = session.java("NamespaceDescriptor").create(text(namespace, "a namespace's name"))
    for setting in settings:
        for key, value in setting.items():
            builder.addConfiguration(text(key), text(value))
    if more:
        raise UsageError("create_namespace: settings stand in { }")
    session.admin("createNamespace", builder.build())


@command("namespace", keep_hashes=True)
def alter_namespace(session: Session, namespace: str, *settings: dict[str, Any], **more: Any) -> None:
    """Change a namespace's settings.

    alter_namespace 'ns1', {METHOD => 'set', 'PROPERTY_NAME' => 'PROPERTY_VALUE'}
    alter_namespace 'ns1', {METHOD => 'unset', NAME => 'PROPERTY_NAME'}
    """
    descriptor = session.admin("getNamespaceDescriptor", text(namespace, "a namespace's name"))
    given = [{str(key).upper(): (key, value) for key, value in s.items()} for s in (*settings, more) if s]
    for setting in given:
        method = setting.pop("METHOD", ("", ""))[1]
        if method == "set" and setting:
            for key, value in setting.values():
                descriptor.setConfiguration(text(key), text(value))
        elif method == "unset" and "NAME" in setting:
            descriptor.removeConfiguration(text(setting["NAME"][1]))
        else:
            raise UsageError(
                "alter_namespace: METHOD => 'set' with settings, or METHOD => 'unset', NAME => 'SETTING'"
            )
    session.admin("modifyNamespace", descriptor)


@command("namespace")
def describe_namespace(session: Session, namespace: str) -> Facts:
    """Say what a namespace's settings are.

    describe_namespace 'ns1'
    """
    descriptor = session.admin("getNamespaceDescriptor", text(namespace, "a namespace's name"))
    settings = {str(k): str(v) for k, v in dict(descriptor.getConfiguration()).items()}
    return Facts({"NAME": str(descriptor.getName()), **settings})


@command("namespace")
def drop_namespace(session: Session, namespace: str) -> None:
    """Forget a namespace, which must be empty.

    drop_namespace 'ns1'
    """
    session.admin("deleteNamespace", text(namespace, "a namespace's name"))


@command("namespace")
def list_namespace(session: Session, pattern: str = ".*") -> Names:
    """List namespaces, those that match a pattern if there is one.

    list_namespace
    list_namespace 'abc.*'
    """
    matches = session.pattern(pattern).asMatchPredicate()
    names = sorted(str(name) for name in session.admin("listNamespaces"))
    return Names("NAMESPACE", [name for name in names if matches.test(name)])


@command("namespace")
def list_namespace_tables(session: Session, namespace: str) -> Names:
    """List the tables of a namespace.

    list_namespace_tables 'ns1'
    """
    tables = session.admin("listTableNamesByNamespace", text(namespace, "a namespace's name"))
    return Names("TABLE", sorted(str(t.getQualifierAsString()) for t in tables))
