"""The service of groups of region servers, which HBase 2's client jar has no classes for.

Its messages (RSGroupAdmin.proto, of hbase-rsgroup 2.6) are put together here from Java's own protobuf, and go
to the master as any coprocessor's do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kirsch.hbase.shell.command import CommandError
from kirsch.hbase.shell.session import Session, text

PROTOBUF = "org.apache.hadoop.hbase.shaded.com.google.protobuf"
SERVICE = "RSGroupAdminService"
ENDPOINT = "org.apache.hadoop.hbase.rsgroup.RSGroupAdminEndpoint"

# Each message's fields: number, type (a message's name, or one of protobuf's own), whether there are many.
Field = tuple[int, str, bool]
MESSAGES: dict[str, dict[str, Field]] = {
    "TableName": {"namespace": (1, "bytes", False), "qualifier": (2, "bytes", False)},
    "ServerName": {
        "host_name": (1, "string", False),
        "port": (2, "uint32", False),
        "start_code": (3, "uint64", False),
    },
    "NameStringPair": {"name": (1, "string", False), "value": (2, "string", False)},
    "RSGroupInfo": {
        "name": (1, "string", False),
        "tables": (3, "TableName", True),
        "servers": (4, "ServerName", True),
        "configuration": (5, "NameStringPair", True),
    },
    "ListRSGroupInfosRequest": {},
    "ListRSGroupInfosResponse": {"r_s_group_info": (1, "RSGroupInfo", True)},
    "GetRSGroupInfoRequest": {"r_s_group_name": (1, "string", False)},
    "GetRSGroupInfoResponse": {"r_s_group_info": (1, "RSGroupInfo", False)},
    "GetRSGroupInfoOfTableRequest": {"table_name": (1, "TableName", False)},
    "GetRSGroupInfoOfTableResponse": {"r_s_group_info": (1, "RSGroupInfo", False)},
    "GetRSGroupInfoOfServerRequest": {"server": (2, "ServerName", False)},
    "GetRSGroupInfoOfServerResponse": {"r_s_group_info": (1, "RSGroupInfo", False)},
    "AddRSGroupRequest": {"r_s_group_name": (1, "string", False)},
    "AddRSGroupResponse": {},
    "RemoveRSGroupRequest": {"r_s_group_name": (1, "string", False)},
    "RemoveRSGroupResponse": {},
    "RenameRSGroupRequest": {
        "old_rsgroup_name": (1, "string", False),
        "new_rsgroup_name": (2, "string", False),
    },
    "RenameRSGroupResponse": {},
    "BalanceRSGroupRequest": {
        "r_s_group_name": (1, "string", False),
        "ignore_rit": (2, "bool", False),
        "dry_run": (3, "bool", False),
    },
    "BalanceRSGroupResponse": {
        "balanceRan": (1, "bool", False),
        "moves_calculated": (2, "uint32", False),
        "moves_executed": (3, "uint32", False),
    },
    "MoveServersRequest": {"target_group": (1, "string", False), "servers": (3, "ServerName", True)},
    "MoveServersResponse": {},
    "MoveTablesRequest": {"target_group": (1, "string", False), "table_name": (2, "TableName", True)},
    "MoveTablesResponse": {},
    "MoveServersAndTablesRequest": {
        "target_group": (1, "string", False),
        "servers": (2, "ServerName", True),
        "table_name": (3, "TableName", True),
    },
    "MoveServersAndTablesResponse": {},
    "RemoveServersRequest": {"servers": (1, "ServerName", True)},
    "RemoveServersResponse": {},
    "UpdateRSGroupConfigRequest": {
        "group_name": (1, "string", False),
        "configuration": (2, "NameStringPair", True),
    },
    "UpdateRSGroupConfigResponse": {},
}


@dataclass(frozen=True, slots=True)
class Group:
    """A group of region servers."""

    name: str
    servers: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    configuration: dict[str, str] = field(default_factory=dict)


class Service:
    """The service, at the master. Raises CommandError where the server does not have it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        names = {str(name) for name in session.admin("getMasterCoprocessorNames")}
        if not names & {ENDPOINT, ENDPOINT.rpartition(".")[2]}:
            raise CommandError(
                "this server has no groups of region servers: RSGroupAdminEndpoint is not among its "
                "coprocessors (hbase.coprocessor.master.classes, and RSGroupBasedLoadBalancer as "
                "hbase.master.loadbalancer.class)"
            )
        self._file = _file(session)

    def groups(self) -> list[Group]:
        """All groups."""
        return [_group(info) for info in self.call("ListRSGroupInfos").get("r_s_group_info", ())]

    def group(self, name: str) -> Group:
        """A group by its name. Raises CommandError."""
        return self.of("GetRSGroupInfo", r_s_group_name=name)

    def of(self, method: str, **fields: Any) -> Group:
        """The one group that a method answers with. Raises CommandError where there is none."""
        info = self.call(method, **fields).get("r_s_group_info")
        if info is None:
            raise CommandError(f"there is no group of {next(iter(fields.values()))}" if method !=
            "GetRSGroupInfo"
                               else f"there is no group {fields['r_s_group_name']}")  # fmt: skip
        return _group(info)

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        """Call a method; the fields of its answer."""
        session = self._session
        channel = session.admin("coprocessorService")
        service = self._file.findServiceByName(SERVICE)
        dynamic = session.java(f"{PROTOBUF}.DynamicMessage")
        request = self._message(f"{method}Request", fields)
        empty = dynamic.getDefaultInstance(self._file.findMessageTypeByName(f"{method}Response"))
        controller = session.java("ipc.ServerRpcController")()
        answer = session.call(
            channel.callBlockingMethod, service.findMethodByName(method), controller, request, empty
        )
        return _fields(answer)

    def _message(self, kind: str, fields: Mapping[str, Any]) -> Any:
        descriptor = self._file.findMessageTypeByName(kind)
        builder = self._session.java(f"{PROTOBUF}.DynamicMessage").newBuilder(descriptor)
        for name, (_, type_, repeated) in MESSAGES[kind].items():
            if name not in fields:
                continue
            told = descriptor.findFieldByName(name)
            if not repeated:
                builder.setField(told, self._value(type_, fields[name]))
                continue
            given = fields[name].items() if isinstance(fields[name], Mapping) else fields[name]
            for one in given:
                builder.addRepeatedField(told, self._value(type_, one))
        return builder.build()

    def _value(self, type_: str, value: Any) -> Any:
        java = self._session.java
        if type_ == "string":
            return java("java.lang.String")(value)
        if type_ == "bool":
            return java("java.lang.Boolean")(bool(value))
        if type_ == "uint32":
            return java("java.lang.Integer")(value)
        if type_ == "uint64":
            return java("java.lang.Long")(value)
        if type_ == "bytes":
            return java(f"{PROTOBUF}.ByteString").copyFromUtf8(value)
        if type_ == "TableName":
            namespace, _, qualifier = value.rpartition(":")
            return self._message("TableName", {"namespace": namespace or "default", "qualifier": qualifier})
        if type_ == "ServerName":
            host, _, port = text(value, "a server's name").replace(",", ":").partition(":")
            port = port.partition(":")[0]
            if not port.isdigit():
                raise CommandError(f"{value} is no server here: write HOST:PORT")
            return self._message("ServerName", {"host_name": host, "port": int(port)})
        return self._message("NameStringPair", {"name": value[0], "value": value[1]})


def _file(session: Session) -> Any:
    """The description of all messages and the service, as protoc would make it."""
    protos = f"{PROTOBUF}.DescriptorProtos$"
    made = (
        session.java(f"{protos}FileDescriptorProto")
        .newBuilder()
        .setName("RSGroupAdmin.proto")
        .setPackage("hbase.pb")
    )
    labels = session.java(f"{protos}FieldDescriptorProto$Label")
    types = session.java(f"{protos}FieldDescriptorProto$Type")
    for name, fields in MESSAGES.items():
        message = session.java(f"{protos}DescriptorProto").newBuilder().setName(name)
        for title, (number, type_, repeated) in fields.items():
            described = (
                session.java(f"{protos}FieldDescriptorProto").newBuilder().setName(title).setNumber(number)
            )
            described.setLabel(labels.LABEL_REPEATED if repeated else labels.LABEL_OPTIONAL)
            if type_ in MESSAGES:
                described.setType(types.TYPE_MESSAGE).setTypeName(f".hbase.pb.{type_}")
            else:
                described.setType(getattr(types, f"TYPE_{type_.upper()}"))
            message.addField(described)
        made.addMessageType(message)
    service = session.java(f"{protos}ServiceDescriptorProto").newBuilder().setName(SERVICE)
    for name in MESSAGES:
        if name.endswith("Request"):
            method = session.java(f"{protos}MethodDescriptorProto").newBuilder()
            method.setName(name.removesuffix("Request")).setInputType(f".hbase.pb.{name}")
            service.addMethod(method.setOutputType(f".hbase.pb.{name.removesuffix('Request')}Response"))
    made.addService(service)
    descriptor = session.java(f"{PROTOBUF}.Descriptors$FileDescriptor")
    import jpype

    return descriptor.buildFrom(made.build(), jpype.JArray(descriptor)(0))


def _fields(message: Any) -> dict[str, Any]:
    found = {}
    for told, value in dict(message.getAllFields()).items():
        repeated = bool(told.isRepeated())
        found[str(told.getName())] = [_plain(told, one) for one in value] if repeated else _plain(told, value)
    return found


def _plain(told: Any, value: Any) -> Any:
    kind = str(told.getType())
    if kind == "MESSAGE":
        return _fields(value)
    if kind == "BYTES":
        return str(value.toStringUtf8())
    if kind == "BOOL":
        return bool(value)
    return str(value) if kind == "STRING" else int(value)


def _group(info: Mapping[str, Any]) -> Group:
    return Group(
        info["name"],
        sorted(f"{s['host_name']}:{s['port']}" for s in info.get("servers", ())),
        sorted(
            t["qualifier"] if t["namespace"] == "default" else f"{t['namespace']}:{t['qualifier']}"
            for t in info.get("tables", ())
        ),
        {pair["name"]: pair["value"] for pair in info.get("configuration", ())},
    )
