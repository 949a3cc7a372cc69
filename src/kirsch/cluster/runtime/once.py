"""One command, run once beside a unit: its health check."""

import asyncio

from kirsch.bus.child import Child, ChildError, Command, Exit

TIMED_OUT = 124  # as timeout(1) has it
NOT_EXECUTED = 127  # as sh(1) has it


async def run_once(command: Command, seconds: float, running: set[Child]) -> int:
    """Run a command for at most `seconds`, its output dropped; nothing of it is left, also when cancelled.

    Returns its exit status, as Runtime.run has it. It is in `running` as long as it lasts.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exit] = loop.create_future()

    def settle(exit: Exit) -> None:
        if not ended.done():
            ended.set_result(exit)

    def on_main_exit(exit: Exit) -> None:
        try:
            loop.call_soon_threadsafe(settle, exit)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def kill(done: "asyncio.Future[None]") -> None:
        if done.exception() is None:
            child.kill()

    child = Child(command, on_main_exit=on_main_exit, keep=True)
    running.add(child)
    start = asyncio.ensure_future(asyncio.to_thread(child.start))
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(start)
            exit = await ended
    except ChildError:
        return NOT_EXECUTED
    except TimeoutError:
        return TIMED_OUT
    finally:
        running.discard(child)
        start.add_done_callback(kill)
    return 128 + exit.signal if exit.signal is not None else exit.code or 0
