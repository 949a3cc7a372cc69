// The server's live stream. It connects again by itself, after pauses that grow and are not the same for all.

const FIRST = 500; // ms
const MOST = 15_000;

/** Call `tell` with each message; `state` with a word and what to say of the connection. */
export function follow(tell, state) {
  let failed = 0;
  const address = new URL("/location/live", location.href);
  address.protocol = address.protocol.replace("http", "ws");

  function connect() {
    const socket = new WebSocket(address);
    socket.onopen = () => {
      failed = 0;
      state("live", "live");
    };
    socket.onmessage = (event) => tell(JSON.parse(event.data));
    socket.onclose = async () => {
      state("lost", "connection lost, trying again");
      await refused();
      failed += 1;
      setTimeout(connect, Math.random() * Math.min(MOST, FIRST * 2 ** failed));
    };
  }

  // A token that is not the one any more is asked for anew: that page is the server's.
  async function refused() {
    try {
      const answer = await fetch("/location", { headers: { Accept: "application/json" } });
      if (answer.status === 401) location.reload();
    } catch {
      // It is away: we try again.
    }
  }

  connect();
}
