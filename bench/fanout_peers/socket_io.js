// socket.io with its Redis adapter: `node socket_io.js`; REDIS_URL is Redis.
const { createServer } = require("node:http");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const { Server } = require("socket.io");

async function main() {
  const publisher = createClient({ url: process.env.REDIS_URL });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const http = createServer();
  // The benchmark's readers answer no pings: the first comes after they have gone.
  const io = new Server(http, { adapter: createAdapter(publisher, subscriber), pingInterval: 3600000 });
  io.on("connection", (socket) => {
    socket.join("bench");
    socket.on("say", (data) => io.to("bench").emit("say", data));
  });
  http.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () =>
    console.log(`listening on ${http.address().port}`));
}

main();
