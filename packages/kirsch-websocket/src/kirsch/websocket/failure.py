"""Why a connection could not be opened: the one line that a person reads."""

import socket
import ssl

from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.opening import Disconnect, Step


def failure(step: Step, error: Exception, timeout: float | None) -> HandshakeError:
    """The error of a step that could not be done; `timeout` is what there was for everything, in seconds."""
    peer = "" if isinstance(step, Disconnect) else step.peer
    match error:
        case ssl.SSLCertVerificationError():
            why = f"the certificate of {peer} is not accepted: {error.verify_message.rstrip('.')}"
        case ssl.SSLEOFError() | ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            why = f"{peer} closed the connection before it answered"
        case ssl.SSLError():
            said = (error.reason or str(error.args[-1])).replace("_", " ").lower()
            why = f"no TLS with {peer}: {said}"
        case TimeoutError():
            why = f"{peer} did not answer" + ("" if timeout is None else f" within {timeout:g} seconds")
        case socket.gaierror():
            why = f"the address of {peer.rpartition(':')[0]} is not known: {error.strerror}"
        case ConnectionRefusedError():
            why = f"nothing listens on {peer}"
        case FileNotFoundError():
            why = f"there is no socket {peer}"
        case _:
            why = f"{peer} is not reached: {getattr(error, 'strerror', None) or error}"
    return HandshakeError(0, " ".join(why.split()))
