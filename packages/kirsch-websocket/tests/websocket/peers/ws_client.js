// npm's ws as a client: what a browser can do, and fragments and pings besides.
const { WebSocket } = require("ws");
const { talk } = require("./web_client.js");

async function more(ws) {
  ws.send("one, ", { fin: false });
  ws.send("zwei, ", { fin: false });
  ws.send("三", { fin: true });
  const fragmented = await ws.receive();
  const ponged = new Promise((resolve) => ws.once("pong", (data) => resolve(data.toString())));
  ws.ping("are you there");
  return { fragmented, ping: await ponged };
}

talk(WebSocket, process.argv.slice(2), more).then((facts) => console.log(JSON.stringify(facts)));
