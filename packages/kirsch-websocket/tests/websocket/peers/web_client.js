// The facts as a browser's WebSocket finds them: in a page, in node by its own class, and with npm's ws.
// The values are those of facts.py.

function connect(WebSocket, url, offered) {
  const ws = new WebSocket(url, offered ?? []);
  ws.binaryType = "arraybuffer";
  const inbox = [], waiting = [];
  ws.addEventListener("message", ({ data }) => (waiting.length ? waiting.shift()(data) : inbox.push(data)));
  ws.receive = () => (inbox.length ? inbox.shift() : new Promise((resolve) => waiting.push(resolve)));
  ws.gone = new Promise((resolve) =>
    ws.addEventListener("close", ({ code, reason, wasClean }) => {
      waiting.forEach((resolve) => resolve(`closed: ${code} ${reason}`));
      resolve(wasClean ? [code, reason] : [code, reason, "not clean"]);
    }),
  );
  return new Promise((resolve, reject) => {
    ws.addEventListener("open", () => resolve(ws));
    ws.addEventListener("error", () => reject(new Error(`no connection to ${url}`)));
  });
}

async function echoed(WebSocket, url, more) {
  const ws = await connect(WebSocket, url);
  const facts = { deflate: ws.extensions.includes("permessage-deflate") };
  ws.send("Grüße, 世界 🌍");
  facts.text = await ws.receive();
  ws.send("");
  facts.empty = await ws.receive();
  ws.send(Uint8Array.from({ length: 256 }, (_, i) => i));
  facts.binary = btoa(String.fromCharCode(...new Uint8Array(await ws.receive())));
  const large = new Uint32Array(1 << 18);
  let state = 5;
  for (let i = 0; i < large.length; i++) large[i] = state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  ws.send(large);
  const back = new Uint32Array(await ws.receive());
  facts.large = back.length === large.length && back.every((word, i) => word === large[i]);
  if (more) Object.assign(facts, await more(ws));
  ws.close(4001, "enough of it");
  facts.close = await ws.gone;
  return facts;
}

async function commanded(WebSocket, url) {
  const ws = await connect(WebSocket, url, ["soap", "chat"]);
  const facts = { subprotocol: ws.protocol };
  ws.send("fragments");
  facts["server fragments"] = await ws.receive();
  ws.send("ping");
  facts["server ping"] = await ws.receive();
  ws.send("close");
  facts["server close"] = await ws.gone;
  return facts;
}

async function counted(WebSocket, url) {
  const ws = await connect(WebSocket, url);
  const sent = "kirsch ".repeat(Math.floor((1 << 20) / 7));
  ws.send(sent);
  const facts = { compressible: (await ws.receive()) === sent };
  ws.close(1000);
  await ws.gone;
  return facts;
}

async function talk(WebSocket, urls, more) {
  return {
    ...(await echoed(WebSocket, urls[0], more)),
    ...(await commanded(WebSocket, urls[1])),
    ...(await counted(WebSocket, urls[2])),
  };
}

// In node: `node --experimental-websocket web_client.js URL URL URL`.
if (typeof module !== "undefined") {
  module.exports = { talk };
  if (require.main === module)
    talk(WebSocket, process.argv.slice(2)).then((facts) => console.log(JSON.stringify(facts)));
}
