"""Groups of region servers.

HBase 2's client jar lacks the classes of this service, so its messages (RSGroupAdmin.proto of hbase-rsgroup
2.6) are built here with Java's protobuf, and sent to the master as a coprocessor call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jpype

from kirsch.hbase.errors import Invalid, NotFound, Unsupported
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.names import table_name

if TYPE_CHECKING:
    from kirsch.hbase.connection import Connection

PROTOBUF = "org.apache.hadoop.hbase.shaded.com.google.protobuf"
SERVICE = "RSGroupAdminService"
# The setting of a namespace that names the group of its new tables.
SETTING = "hbase.rsgroup.name"
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
    """A group of region servers: servers as HOST:PORT, its tables and settings."""

    name: str
    servers: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    configuration: dict[str, str] = field(default_factory=dict)


class Groups:
    """Groups of region servers, as `admin.groups`. Raises Unsupported where the server does not have them."""

    def __init__(self, connection: "Connection", java: Any) -> None:
        self._call = connection.call
        self._java = java
        names = {str(name) for name in self._call(java.getMasterCoprocessorNames)}
        if not names & {ENDPOINT, ENDPOINT.rpartition(".")[2]}:
            raise Unsupported(
                "this server has no groups of region servers: RSGroupAdminEndpoint is not among its "
                "coprocessors (hbase.coprocessor.master.classes, and RSGroupBasedLoadBalancer as "
                "hbase.master.loadbalancer.class)"
            )
        self._file = _file()

    def list(self) -> "list[Group]":
        """Return all groups of region servers."""
        return [_group(info) for info in self.call("ListRSGroupInfos").get("r_s_group_info", ())]

    def get(self, name: str) -> Group:
        """Return a group by its name. Raises NotFound."""
        return self._one(f"there is no group {name}", "GetRSGroupInfo", r_s_group_name=name)

    def of_server(self, server: str) -> Group:
        """Return the group of a server, HOST:PORT. Raises NotFound."""
        return self._one(f"there is no group of {server}", "GetRSGroupInfoOfServer", server=server)

    def of_table(self, table: str) -> Group:
        """Return the group of a table. Raises NotFound."""
        self._check([table])
        return self._one(f"there is no group of {table}", "GetRSGroupInfoOfTable", table_name=table)

    def add(self, name: str) -> None:
        """Add an empty group."""
        self.call("AddRSGroup", r_s_group_name=name)

    def remove(self, name: str) -> None:
        """Remove a group, which must be empty."""
        self.call("RemoveRSGroup", r_s_group_name=name)

    def rename(self, old: str, new: str) -> None:
        """Rename a group of region servers."""
        self.call("RenameRSGroup", old_rsgroup_name=old, new_rsgroup_name=new)

    def balance(self, name: str, *, ignore_rit: bool = False, dry_run: bool = False) -> dict[str, Any]:
        """Balance a group's regions; the answer has balanceRan, moves_calculated and moves_executed."""
        return self.call("BalanceRSGroup", r_s_group_name=name, ignore_rit=ignore_rit, dry_run=dry_run)

    def move(self, name: str, servers: Sequence[str] = (), tables: Sequence[str] = ()) -> None:
        """Move servers (HOST:PORT) and tables to a group. Raises NotFound."""
        self._check(tables)
        if servers and tables:
            self.call("MoveServersAndTables", target_group=name, servers=servers, table_name=tables)
        elif servers:
            self.call("MoveServers", target_group=name, servers=servers)
        elif tables:
            self.call("MoveTables", target_group=name, table_name=tables)

    def move_namespaces(self, name: str, namespaces: Sequence[str], servers: Sequence[str] = ()) -> None:
        """Move namespaces to a group, with the tables they have and will have, and servers too."""
        self.get(name)
        tables: list[str] = []
        for namespace in namespaces:
            descriptor = self._call(self._java.getNamespaceDescriptor, namespace)
            descriptor.setConfiguration(SETTING, name)
            self._call(self._java.modifyNamespace, descriptor)
            tables += [str(one) for one in self._call(self._java.listTableNamesByNamespace, namespace)]
        self.move(name, servers, tables)

    def of_namespace(self, namespace: str) -> str:
        """Return the name of the group that a namespace's new tables join. Raises NotFound."""
        descriptor = self._call(self._java.getNamespaceDescriptor, namespace)
        return str(descriptor.getConfigurationValue(SETTING) or "default")

    def remove_servers(self, servers: Sequence[str]) -> None:
        """Remove decommissioned servers from their groups."""
        self.call("RemoveServers", servers=servers)

    def configure(self, name: str, configuration: Mapping[str, str]) -> None:
        """Replace a group's settings."""
        self.call("UpdateRSGroupConfig", group_name=name, configuration=configuration)

    def _check(self, tables: Sequence[str]) -> None:
        for table in tables:
            self._call(self._java.getDescriptor, hbase("TableName").valueOf(table_name(table)))

    def _one(self, missing: str, method: str, **fields: Any) -> Group:
        info = self.call(method, **fields).get("r_s_group_info")
        if info is None:
            raise NotFound(missing)
        return _group(info)

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        """Call a method of the service. Return the fields of its answer."""
        channel = self._call(self._java.coprocessorService)
        service = self._file.findServiceByName(SERVICE)
        dynamic = cls(f"{PROTOBUF}.DynamicMessage")
        request = self._message(f"{method}Request", fields)
        empty = dynamic.getDefaultInstance(self._file.findMessageTypeByName(f"{method}Response"))
        controller = hbase("ipc.ServerRpcController")()
        return _fields(
            self._call(
                channel.callBlockingMethod, service.findMethodByName(method), controller, request, empty
            )
        )

    def _message(self, kind: str, fields: Mapping[str, Any]) -> Any:
        descriptor = self._file.findMessageTypeByName(kind)
        builder = cls(f"{PROTOBUF}.DynamicMessage").newBuilder(descriptor)
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
        if type_ == "string":
            return cls("java.lang.String")(value)
        if type_ == "bool":
            return cls("java.lang.Boolean")(bool(value))
        if type_ == "uint32":
            return cls("java.lang.Integer")(value)
        if type_ == "uint64":
            return cls("java.lang.Long")(value)
        if type_ == "bytes":
            return cls(f"{PROTOBUF}.ByteString").copyFromUtf8(value)
        if type_ == "TableName":
            namespace, _, qualifier = value.rpartition(":")
            return self._message("TableName", {"namespace": namespace or "default", "qualifier": qualifier})
        if type_ == "ServerName":
            host, _, port = value.replace(",", ":").partition(":")
            port = port.partition(":")[0]
            if not port.isdigit():
                raise Invalid(f"{value} is not a server: write HOST:PORT")
            return self._message("ServerName", {"host_name": host, "port": int(port)})
        return self._message("NameStringPair", {"name": value[0], "value": value[1]})


def _file() -> Any:
    """Return the descriptor of the messages and the service, as protoc would generate it."""
    protos = f"{PROTOBUF}.DescriptorProtos$"
    made = (
        cls(f"{protos}FileDescriptorProto").newBuilder().setName("RSGroupAdmin.proto").setPackage("hbase.pb")
    )
    labels = cls(f"{protos}FieldDescriptorProto$Label")
    types = cls(f"{protos}FieldDescriptorProto$Type")
    for name, fields in MESSAGES.items():
        message = cls(f"{protos}DescriptorProto").newBuilder().setName(name)
        for title, (number, type_, repeated) in fields.items():
            described = cls(f"{protos}FieldDescriptorProto").newBuilder().setName(title).setNumber(number)
            described.setLabel(labels.LABEL_REPEATED if repeated else labels.LABEL_OPTIONAL)
            if type_ in MESSAGES:
                described.setType(types.TYPE_MESSAGE).setTypeName(f".hbase.pb.{type_}")
            else:
                described.setType(getattr(types, f"TYPE_{type_.upper()}"))
            message.addField(described)
        made.addMessageType(message)
    service = cls(f"{protos}ServiceDescriptorProto").newBuilder().setName(SERVICE)
    for name in MESSAGES:
        if name.endswith("Request"):
            method = cls(f"{protos}MethodDescriptorProto").newBuilder()
            method.setName(name.removesuffix("Request")).setInputType(f".hbase.pb.{name}")
            service.addMethod(method.setOutputType(f".hbase.pb.{name.removesuffix('Request')}Response"))
    made.addService(service)
    descriptor = cls(f"{PROTOBUF}.Descriptors$FileDescriptor")
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
