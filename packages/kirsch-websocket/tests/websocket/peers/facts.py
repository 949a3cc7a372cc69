"""What every client finds out, against every server. Clients print these facts as one JSON object.

A client is given three URLs. At the first it says things and has them echoed, then closes. At the second,
where it offers the subprotocols OFFERED, it tells the server what to do: `fragments`, `ping`, `close`. At the
third it sends COMPRESSIBLE and has it echoed: between client and server the bytes are counted.
"""

import base64

TEXT = "Grüße, 世界 🌍"
BINARY = bytes(range(256))
SIZE = 1 << 20
PARTS = ("one, ", "zwei, ", "三")
COMPRESSIBLE = "kirsch " * (SIZE // 7)
PING = b"are you there"
CLOSE = (4001, "enough of it")
OFFERED = ("soap", "chat")
CHOSEN = "chat"
SERVER_PING = b"knock"
SERVER_CLOSE = (4002, "bye, 世界")

EXPECTED = {
    "text": TEXT,
    "empty": "",
    "binary": base64.b64encode(BINARY).decode(),
    "large": True,
    "fragmented": "".join(PARTS),
    "ping": PING.decode(),
    "deflate": True,
    "close": list(CLOSE),
    "subprotocol": CHOSEN,
    "server fragments": "".join(PARTS),
    "server ping": f"ponged {SERVER_PING.decode()}",
    "server close": list(SERVER_CLOSE),
    "compressible": True,
}
