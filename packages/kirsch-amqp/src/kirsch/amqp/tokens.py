"""Signed tokens (JWT, RFC 7519): who somebody is, and which private room somebody may enter."""

import math
import time
from collections.abc import Collection
from typing import Any

from kirsch.amqp.access import Identity, Ticket, is_private, why_no_id
from kirsch.amqp.protocol import Hello

try:
    import jwt
except ImportError as error:
    from kirsch.install import pip_install

    raise ImportError(
        f"kirsch.amqp.Tokens needs PyJWT: {pip_install('kirsch-amqp[jwt]')}", name="jwt"
    ) from error

# Bytes that a secret has at least (RFC 7518, 3.2).
LEAST = 32
# End of the audience of tickets.
TICKET = ".ticket"
# Largest token that is read, in characters.
MOST = 8192


class Tokens:
    """Makes and reads tokens.

        tokens = Tokens(os.environ["CHAT_SECRET"])
        bridge = Bridge(bus, amqp, authenticate=tokens.authenticate, tickets=tokens.admit)

    The page gets `issue(user)` as its token, and `ticket(room)` for a private room, from a page of the
    application's own that knows who asks. Any other program with the secret can make the same: claims are
    `sub` (user), `name`, `roles`, `exp` and `aud` (`name`); a ticket's are `sub` (user; missing: whoever has
    it), `room`, `write`, `exp` and `aud` (`name` and ".ticket"). So no ticket passes for an identity.

    Args:
        secret: the secret that signs and proves tokens (HS256), of 32 bytes or more.
        name: audience of the tokens: processes with the same secret and name take each other's.
    """

    def __init__(self, secret: str | bytes, name: str = "kirsch") -> None:
        self._secret = secret.encode() if isinstance(secret, str) else secret
        if len(self._secret) < LEAST:
            raise ValueError(f"the secret of tokens has {LEAST} bytes at least")
        # Other tokens' tickets would be identities of these.
        if name.endswith(TICKET):
            raise ValueError(f"the name of tokens does not end with {TICKET}")
        self._name = name

    def issue(
        self, user: str, name: str = "", roles: Collection[str] = (), *, seconds: float = 3600.0
    ) -> str:
        """Return a token that tells who somebody is, good for so many seconds."""
        if not user:
            raise ValueError("a token needs a user")
        if wrong := why_no_id(user):
            raise ValueError(wrong)
        return self._sign({"sub": user, "name": name, "roles": sorted(roles)}, self._name, seconds)

    def ticket(self, room: str, user: str = "", *, write: bool = True, seconds: float = 300.0) -> str:
        """Return a ticket for a private room; "" as user admits whoever has the ticket."""
        if not is_private(room):
            raise ValueError(f"{room!r} is not private: names of private rooms begin with !")
        claims = {"room": room, "write": write} | ({"sub": user} if user else {})
        return self._sign(claims, self._name + TICKET, seconds)

    def authenticate(self, hello: Hello, request: Any) -> Identity | None:
        """Return the identity that a hello's token tells; for the Bridge's `authenticate`."""
        claims = self._read(hello.token, self._name)
        user, name, roles = claims.get("sub"), claims.get("name", ""), claims.get("roles", [])
        if not isinstance(user, str) or not user or not isinstance(name, str) or not isinstance(roles, list):
            return None
        named = frozenset(role for role in roles if isinstance(role, str))
        return Identity(name or hello.name, None, user, named, _expires(claims))

    def admit(self, ticket: str, room: str, user: str) -> Ticket | None:
        """Return what a ticket allows a user in a room; for the Bridge's `tickets`."""
        claims = self._read(ticket, self._name + TICKET)
        if claims.get("room") != room or claims.get("sub", user) != user:
            return None
        return Ticket(claims.get("write") is True, _expires(claims))

    def _sign(self, claims: dict[str, Any], audience: str, seconds: float) -> str:
        whole = claims | {"aud": audience, "exp": int(time.time() + seconds)}
        return jwt.encode(whole, self._secret, algorithm="HS256")

    def _read(self, token: object, audience: str) -> dict[str, Any]:
        """Return the claims of a token, or none if it is not good."""
        # A JWT is ASCII; PyJWT raises UnicodeEncodeError for a lone surrogate, which JSON can have.
        if not isinstance(token, str) or not token.isascii() or len(token) > MOST:
            return {}
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=audience,
                options={"require": ["exp", "aud"]},
            )
        except jwt.InvalidTokenError:
            return {}
        return claims


def _expires(claims: dict[str, Any]) -> float:
    return float(claims.get("exp", math.inf))
