// The same work in Java, through the same client: java Peer QUORUM TABLE ROWS GETS WHAT…
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.Cell;
import org.apache.hadoop.hbase.CellUtil;
import org.apache.hadoop.hbase.HBaseConfiguration;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.*;
import org.apache.hadoop.hbase.util.Bytes;

public class Peer {
  static long held;

  public static void main(String[] arguments) throws Exception {
    Configuration configuration = HBaseConfiguration.create();
    String[] place = arguments[0].split(":");
    configuration.set("hbase.zookeeper.quorum", place[0]);
    configuration.set("hbase.zookeeper.property.clientPort", place[1]);
    TableName name = TableName.valueOf(arguments[1]);
    int rows = Integer.parseInt(arguments[2]), gets = Integer.parseInt(arguments[3]);
    try (Connection connection = ConnectionFactory.createConnection(configuration);
        Table table = connection.getTable(name)) {
      for (int index = 4; index < arguments.length; index++) {
        String what = arguments[index];
        long begun = System.nanoTime();
        int count = switch (what) {
          case "puts" -> puts(connection, name, rows);
          case "scan" -> scan(table);
          case "gets" -> gets(table, rows, gets);
          default -> connection.getAdmin().listTableNames().length;
        };
        double seconds = (System.nanoTime() - begun) / 1e9;
        System.out.println(what + " " + count + " " + seconds);
      }
    }
    if (held == 42) System.err.println(held);
  }

  static int puts(Connection connection, TableName name, int rows) throws Exception {
    try (BufferedMutator mutator = connection.getBufferedMutator(name)) {
      for (int number = 0; number < rows; number++) {
        Put put = new Put(Bytes.toBytes(String.format("row%08d", number)));
        put.addColumn(Bytes.toBytes("cf"), Bytes.toBytes("q"), Bytes.toBytes("value" + number));
        mutator.mutate(put);
      }
    }
    return rows;
  }

  // Every cell's five parts as objects of their own, as in Python.
  static int scan(Table table) throws Exception {
    int count = 0;
    try (ResultScanner scanner = table.getScanner(new Scan())) {
      for (Result result : scanner) {
        for (Cell cell : result.rawCells()) {
          held += CellUtil.cloneRow(cell).length + CellUtil.cloneFamily(cell).length
              + CellUtil.cloneQualifier(cell).length + cell.getTimestamp() + CellUtil.cloneValue(cell).length;
          count++;
        }
      }
    }
    return count;
  }

  static int gets(Table table, int rows, int gets) throws Exception {
    for (int number = 0; number < gets; number++) {
      Result result = table.get(new Get(Bytes.toBytes(String.format("row%08d", number * 37 % rows))));
      held += result.value().length;
    }
    return gets;
  }
}
