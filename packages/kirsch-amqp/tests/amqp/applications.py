"""The same Bridge on each provider, in this process: `with running(provider, broker, name) as there`."""

import asyncio
import contextlib
import threading

from cherrypy.process.wspbus import Bus
from tests.deadline import eventually

from kirsch.amqp import AMQPPlugin, Bridge

PROVIDERS = ("cherrypy", "tornado", "asyncio", "gevent")
PATIENCE = 30


class Application:
    """A running one.

    Attributes: bridge, amqp, url; `inside(work)` has a callable called in the provider's own thread.
    """

    def __init__(self, bus, broker, loop, options):
        self.bus = bus
        self.amqp = AMQPPlugin(bus, broker, loop=loop)
        self.bridge = Bridge(bus, self.amqp, **options)
        self.url = ""
        self.amqp.subscribe()
        self.bridge.subscribe()

    def inside(self, work):
        return work()

    def ready(self, patience=PATIENCE):
        def there():
            try:
                self.bridge.check()
            except RuntimeError:
                return False
            return True

        eventually(there, patience, "the bridge")
        return self

    def arguments(self):
        return {"policy": self.bridge.policy, "limits": self.bridge.websocket_limits}


@contextlib.contextmanager
def running(provider, broker, name, *, ready=True, **options):
    """A Bridge on a provider; `options` are the Bridge's."""
    start = {"cherrypy": _cherrypy, "gevent": _gevent}.get(provider, _loop)
    options["name"] = name
    with start(provider, broker, options) as application:
        yield application.ready() if ready else application


@contextlib.contextmanager
def _cherrypy(provider, broker, options):
    from kirsch.websocket.cherrypy import serve

    bus = Bus()
    application = Application(bus, broker, "thread", options)
    bus.start()
    try:
        with serve(application.bridge.connection, **application.arguments()) as server:
            application.url = server.url
            yield application
    finally:
        bus.exit()


@contextlib.contextmanager
def _loop(provider, broker, options):
    """asyncio, and Tornado, in a thread of its own."""
    import kirsch.websocket.asyncio
    import kirsch.websocket.tornado

    module = kirsch.websocket.tornado if provider == "tornado" else kirsch.websocket.asyncio

    async def main(begun):
        bus = Bus()
        application = Application(bus, broker, provider, options)
        bus.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        application.stop = lambda: loop.call_soon_threadsafe(stop.set)
        application.inside = lambda work: asyncio.run_coroutine_threadsafe(_called(work), loop).result(
            PATIENCE
        )
        async with module.serve(application.bridge.connection, **application.arguments()) as server:
            application.url = server.url
            begun(application)
            await stop.wait()
        bus.exit()
        await application.amqp.wait_closed()

    with _thread(lambda begun: asyncio.run(main(begun))) as application:
        yield application


async def _called(work):
    return work()


@contextlib.contextmanager
def _gevent(provider, broker, options):
    """A hub in a thread of its own."""

    def main(begun):
        import gevent
        from gevent.event import Event

        from kirsch.websocket.gevent import serve

        bus = Bus()
        application = Application(bus, broker, "gevent", options)
        stop, loop = Event(), gevent.get_hub().loop
        bus.start()

        def inside(work):
            done, found = threading.Event(), []
            loop.run_callback_threadsafe(lambda: (found.append(work()), done.set()))
            assert done.wait(PATIENCE)
            return found[0]

        application.stop = lambda: loop.run_callback_threadsafe(stop.set)
        application.inside = inside
        with serve(application.bridge.connection, **application.arguments()) as server:
            application.url = server.url
            begun(application)
            stop.wait()
        bus.exit()

    with _thread(main) as application:
        yield application


@contextlib.contextmanager
def _thread(main):
    """A thread that runs `main(begun)`, which calls `begun(application)` and returns once that is stopped."""
    made, failure, over = [], [], threading.Event()

    def begun(application):
        made.append(application)
        over.set()

    def run():
        try:
            main(begun)
        except BaseException as error:
            failure.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert over.wait(PATIENCE)
    assert made, failure
    try:
        yield made[0]
    finally:
        made[0].stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert not failure, failure
