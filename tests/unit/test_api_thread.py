"""The thread that a synchronous client stands on, as it ends. No broker."""

import asyncio
import threading
from concurrent.futures import CancelledError

import pytest

from jobrunner.api.thread import LoopThread


async def _nothing() -> None:
    await asyncio.sleep(0)


def test_what_another_thread_begins_while_it_ends_is_refused_or_ended_and_never_waited_for_for_ever() -> None:
    thread = LoopThread()
    is_ending, may_end = threading.Event(), threading.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_ending.set()
            may_end.wait(30)

    thread.start(slow_to_end())
    thread.run(_nothing())
    stopping = threading.Thread(target=thread.stop)
    stopping.start()
    assert is_ending.wait(30)
    ended: list[BaseException] = []

    async def late() -> None:
        await asyncio.Event().wait()

    def begin() -> None:
        try:
            thread.run(late())
        except (RuntimeError, CancelledError) as exc:
            ended.append(exc)

    beginning = threading.Thread(target=begin, daemon=True)
    beginning.start()
    may_end.set()
    stopping.join(30)
    beginning.join(5)
    assert [str(exc) for exc in ended] == ["this client is closed"]
    thread.stop()
    with pytest.raises(RuntimeError, match="this client is closed"):
        thread.run(_nothing())
