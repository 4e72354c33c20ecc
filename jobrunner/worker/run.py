"""Start a worker, keep its clock, and end it in the one right order."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from jobrunner.broker import declare, topology
from jobrunner.broker.control import Asker, ControlPort, Request, keys_of
from jobrunner.errors import JobrunnerError, PermissionRefused, WorkerNameTaken
from jobrunner.failpoint import cut_with, failpoint
from jobrunner.worker import inbox, journal
from jobrunner.worker.loop import Worker
from jobrunner.worker.privacy import hide_memory
from jobrunner.worker.reload import fingerprint
from jobrunner.worker.settings import WorkerSettings

TICK_S = 0.1
CHECK_S = 1.0
"""How often a burst worker looks for more, and a reloading one at the sources."""

NAME_ANSWER_S = 1.0
"""How long a worker of the same name has to answer; where there is none that is known at once."""

BUG = 70


async def run_worker(settings: WorkerSettings) -> int:
    """Work until a signal, or with `burst` until there is nothing to do. Gives the exit code.

    Raises: JobrunnerError when the broker cannot be reached at the start, or the pool is beyond repair;
    WorkerNameTaken.
    """
    hide_memory()
    worker = Worker(settings)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_die)
    cut_with(worker.cut)
    port: ControlPort | None = None
    try:
        await _connect(worker)
        keys = keys_of(settings.name, worker.steering.presence.host, settings.queues)
        port = ControlPort(
            worker.consuming,
            keys,
            lambda request: worker.inbox.put(inbox.Asked(request)),
            nonce=worker.leases.me,
            on_reply=lambda reply: worker.inbox.put(inbox.Answered(reply)),
        )
        await worker.pool.start()
        tasks = _tasks(worker, loop)
        _handle_signals(worker, loop)
        try:
            await worker.run()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        if port is not None:
            port.close()
        await _shutdown(worker)
    journal.worker_stopped(worker.settler.done, worker.settler.handed_back)
    return worker.stopping.exit_code


def _tasks(worker: Worker, loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[None]]:
    """What goes on beside the worker's own loop, and leaves messages in its inbox."""
    tasks = [loop.create_task(_tick(worker))]
    if worker.settings.burst:
        tasks.append(loop.create_task(_watch_queues(worker)))
    if worker.settings.reload:
        tasks.append(loop.create_task(_watch_sources(worker)))
    return tasks


async def _connect(worker: Worker) -> None:
    """Both connections, what we own in the broker, then the channels. The first failure is the caller's."""
    publishing = worker.settler.connection
    await publishing.connect_once()
    await declare.declare_startup(publishing, worker.settler.publisher)
    await _check_name(worker)
    await worker.consuming.connect_once()
    # what was cancelled while no worker ran must not start: so all cancels are known before the first delivery
    await worker.tombstones.read_all()
    worker.listen()


async def _check_name(worker: Worker) -> None:
    """Raises: WorkerNameTaken. Who may not ask, or cannot now, works all the same: the name is for people."""
    name = worker.settings.name
    key = f"worker.{topology.encode_word(name)}"
    replies = []
    with contextlib.suppress(JobrunnerError, TimeoutError):
        async with (
            asyncio.timeout(2 * NAME_ANSWER_S),
            Asker(worker.settler.connection, worker.settler.publisher) as asker,
        ):
            ping = Request(verb="ping", nonce="", at=0.0)
            replies = await asker.ask(key, ping, timeout_s=NAME_ANSWER_S, expected=1)
    if replies:
        raise WorkerNameTaken(name=name, pid=replies[0].pid)


async def _shutdown(worker: Worker) -> None:
    """The order matters: each line is safe because of those before it."""
    # channels first: a channel's methods are processed in order, so close-ok proves that the acks arrived
    failpoint("shutdown.before_barrier")
    worker.tombstones.close()
    await worker.slots.close()
    # then the publish connection: while a publish is open its delivery must stay ours
    worker.steering.go()
    worker.leases.bye()
    await worker.settler.close()
    await worker.consuming.close()
    # the processes last, and the guardian after them: it covers all of the above
    await worker.pool.stop()


def _handle_signals(worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
    """Handlers only leave a note."""
    post = worker.inbox.put
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, post, inbox.StopRequested(number))
    loop.add_signal_handler(signal.SIGHUP, post, inbox.RenewRequested("SIGHUP"))
    loop.add_signal_handler(signal.SIGUSR1, post, inbox.DumpRequested())


def _die(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback would leave a worker that looks alive. Nothing is acked: the broker has its jobs."""
    journal.bug(context.get("exception"), str(context.get("message")))
    os._exit(BUG)


async def _tick(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + TICK_S
        await asyncio.sleep(TICK_S)
        worker.inbox.put(inbox.Tick(late_s=loop.time() - due))


async def _watch_queues(worker: Worker) -> None:
    """End when the queues and slots are empty twice in a row: a count of ready messages may lag."""
    empty = 0
    while empty < 2:
        await asyncio.sleep(CHECK_S)
        if not worker.consuming.is_open:
            continue
        try:
            idle = not await _has_ready(worker) and not worker.runs
        except JobrunnerError:  # the connection was lost over the question: it comes back, and this asks again
            idle = False
        empty = empty + 1 if idle else 0
    worker.inbox.put(inbox.StopRequested(0))


async def _has_ready(worker: Worker) -> bool:
    """Whether a message waits in one of its queues. Raises: JobrunnerError."""
    for queue in worker.slots.queues:
        try:
            found = await declare.queue_depth(worker.consuming, queue)
        except PermissionRefused:
            continue  # RabbitMQ 4.2.6 and later do not tell who may not create it: then only what comes can tell
        if found is not None and found[0]:
            return True
    return False


async def _watch_sources(worker: Worker) -> None:
    seen = fingerprint(Path.cwd())
    while True:
        await asyncio.sleep(CHECK_S)
        now = fingerprint(Path.cwd())
        if now != seen:
            seen = now
            worker.inbox.put(inbox.RenewRequested("a source file changed"))
