// Two people in a chat, by npm's ws: what Mary says both hear. Prints what they heard and how it ended.
const { WebSocket } = require("ws");

const next = (ws, event) => new Promise((resolve, reject) => {
  ws.once(event, (...found) => resolve(found));
  ws.once("error", reject);
});

// Resolves once that text has come, whatever comes before it.
const hears = (ws, text) => new Promise((resolve) => {
  ws.on("message", function heard(data, binary) {
    if (binary || data.toString() !== text) return;
    ws.off("message", heard);
    resolve(text.length);
  });
});

async function chat(url) {
  const people = [new WebSocket(url), new WebSocket(url)];
  const [mary, john] = people;
  await Promise.all(people.map((person) => next(person, "open")));
  // Each is in the room once it has heard itself.
  for (const [person, name] of [[mary, "Mary is here"], [john, "John is here"]]) {
    const own = hears(person, name);
    person.send(name);
    await own;
  }
  const heard = [];
  for (const text of ["hello", "Grüße 🌍", "x".repeat(100000)]) {
    const both = Promise.all(people.map((person) => hears(person, text)));
    mary.send(text);
    heard.push(await both);
  }
  const ended = next(mary, "close");
  mary.close(3001, "bye");
  const [code] = await ended;
  john.terminate();
  return { heard, code, extensions: mary.extensions };
}

chat(process.argv[2]).then((found) => console.log(JSON.stringify(found)));
