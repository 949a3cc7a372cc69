// npm's ws as a server: prints its URL, ends by SIGTERM.
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has("chat") ? "chat" : false),
});
server.on("connection", (ws) => {
  ws.on("pong", (data) => ws.send(`ponged ${data}`));
  ws.on("message", (data, binary) => {
    const text = binary ? null : data.toString();
    if (text === "fragments") {
      ws.send("one, ", { fin: false });
      ws.send("zwei, ", { fin: false });
      ws.send("三", { fin: true });
    } else if (text === "ping") ws.ping("knock");
    else if (text === "close") ws.close(4002, "bye, 世界");
    else ws.send(data, { binary });
  });
});
server.on("listening", () => console.log(`listening on ws://127.0.0.1:${server.address().port}/`));
process.on("SIGTERM", () => process.exit(0));
