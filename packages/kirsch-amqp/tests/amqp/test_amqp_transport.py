"""pika's connection on asyncio's transports, given up while it opens."""

import asyncio
import socket

import pika
import pytest

from kirsch.amqp.transport import Connection


class Hasty(asyncio.SelectorEventLoop):
    """A loop that gives a connection up when a step of its opening is done, before pika is told."""

    step = ""
    connection = None

    def _done(self, step):
        if step == self.step:
            self.call_soon(self.connection.abort)

    async def getaddrinfo(self, *arguments, **options):
        found = await super().getaddrinfo(*arguments, **options)
        self._done("getaddrinfo")
        return found

    async def sock_connect(self, sock, address):
        await super().sock_connect(sock, address)
        self._done("sock_connect")

    async def create_connection(self, *arguments, **options):
        made = await super().create_connection(*arguments, **options)
        self._done("create_connection")
        return made


@pytest.mark.parametrize("step", ["getaddrinfo", "sock_connect", "create_connection"])
def test_a_connection_can_be_given_up_at_any_step_of_its_opening(step):
    loop = Hasty()
    errors, ended = [], []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    def failed(*_):
        ended.append("failed")
        loop.stop()

    with socket.create_server(("127.0.0.1", 0)) as server:
        parameters = pika.ConnectionParameters(*server.getsockname(), socket_timeout=5, stack_timeout=10)
        loop.step = step
        loop.connection = Connection(loop, parameters, lambda *_: ended.append("opened"), failed, failed)
        late = loop.call_later(20, loop.stop)
        loop.run_forever()
        late.cancel()
        for _ in range(10):  # whatever else is due by now
            loop.run_until_complete(asyncio.sleep(0))
        left = asyncio.all_tasks(loop)
        if step != "getaddrinfo":
            peer, _ = server.accept()
            with peer:
                peer.settimeout(20)
                assert peer.recv(1) == b""  # and not left open
    loop.close()
    assert (ended, errors, left) == (["failed"], [], set())
