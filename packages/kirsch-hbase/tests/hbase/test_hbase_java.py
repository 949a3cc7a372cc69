"""The rest of the Java API, and values that go both ways."""

import math

import pytest

from kirsch.hbase import HBaseError, NotFound, java, to_java, to_python
from kirsch.hbase.schema import Family, Schema

pytestmark = pytest.mark.services


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**62, 0.5, math.inf, "", "Grüße ☃", b"", bytes(range(256)),
        [], [1, "a", b"b", None, [True]], {"a": 1, "b": {"c": [2.5]}}, {1, 2, 3},
    ],
)  # fmt: skip
def test_values_go_both_ways(connection, value):
    assert to_python(to_java(value)) == value
    assert type(to_python(to_java(value))) is type(value)


def test_other_values_of_java(connection):
    assert to_python(java("java.util.Optional").empty()) is None
    assert to_python(java("java.util.Optional").of(java("java.lang.Integer").valueOf(5))) == 5
    assert to_python(java("org.apache.hadoop.hbase.CompareOperator").LESS) == "LESS"
    assert to_python(java("java.util.concurrent.TimeUnit").values())[0] == "NANOSECONDS"


def test_every_class_can_be_imported(connection, table):
    from org.apache.hadoop.hbase import TableName
    from org.apache.hadoop.hbase.client import Get

    result = connection.call(connection.java.getTable(TableName.valueOf(table.name)).get, Get(b"none"))
    assert result.isEmpty()
    assert connection.call(connection.admin.java.tableExists, TableName.valueOf(table.name))


def test_the_cause_is_kept(connection):
    with pytest.raises(NotFound) as raised:
        connection.table("nope").get(b"row")
    assert "TableNotFoundException" in str(raised.value.java.getClass().getName())
    assert "\tat org.apache.hadoop.hbase" in raised.value.trace()
    assert HBaseError("x").trace() == ""


def test_a_coprocessors_service_is_called_in_each_region(connection, name):
    endpoint = "org.apache.hadoop.hbase.coprocessor.MultiRowMutationEndpoint"
    connection.admin.create(Schema(name, (Family("cf"),), coprocessors=(endpoint,)))
    assert connection.admin.schema(name).coprocessors == (endpoint,)
    generated = "org.apache.hadoop.hbase.protobuf.generated."
    put = java("org.apache.hadoop.hbase.client.Put")(b"row").addColumn(b"cf", b"q", b"v")
    kind = java(f"{generated}ClientProtos$MutationProto$MutationType").PUT
    proto = java("org.apache.hadoop.hbase.protobuf.ProtobufUtil").toMutation(kind, put)
    request = (
        java(f"{generated}MultiRowMutationProtos$MutateRowsRequest").newBuilder().addMutationRequest(proto)
    )

    def mutate(stub):
        done = java("org.apache.hadoop.hbase.ipc.CoprocessorRpcUtils$BlockingRpcCallback")()
        stub.mutateRows(java("org.apache.hadoop.hbase.ipc.ServerRpcController")(), request.build(), done)
        done.get()
        return "done"

    service = java(f"{generated}MultiRowMutationProtos$MultiRowMutationService")
    answers = connection.table(name).coprocessor(service, mutate)
    assert list(answers.values()) == ["done"]
    assert connection.table(name)[b"row"]["cf:q"] == b"v"
