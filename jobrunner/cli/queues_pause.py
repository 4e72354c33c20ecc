"""What `jobrunner queues pause` and `resume` do: a word that workers of now and later know, confirmed by the broker."""

import asyncio
import contextlib
import sys
import time
from typing import Any, Final

import msgspec

from jobrunner.broker import declare
from jobrunner.broker.publisher import Publisher, Stored, event_message
from jobrunner.cli import out
from jobrunner.cli.shared import Shared
from jobrunner.cli.viewing import catch_up, opened
from jobrunner.client import Client
from jobrunner.errors import NotFound, PauseUnconfirmed, PermissionRefused
from jobrunner.events import Pause
from jobrunner.view.pausing import pause_words, resume_command
from jobrunner.view.store import Store

STEP_S: Final = 0.001


def change(shared: Shared, queue: str, *, paused: bool, for_s: float | None = None, reason: str = "") -> int:
    """Pause or resume a queue, and say so. Raises: NotFound, PauseUnconfirmed, the broker's errors."""
    now = time.time()
    until = None if for_s is None else now + for_s
    word = Pause(at=now, queue=queue, paused=paused, until=until, reason=reason)
    with opened(shared) as store:
        word, depth, before = asyncio.run(_change(shared, store, word))
    if shared.json:
        document = {"queue": queue, "paused": pause_document(word) if paused else None, "ready": depth}
        out.emit_json(document)
    elif shared.quiet or not sys.stdout.isatty():
        out.emit(queue)
    elif paused:
        out.emit(f"{shared.mark('✓')} {out.printable(f'{queue} is {pause_words(word, now)}')}")
        shared.talk("  What runs goes on; queued jobs wait safely.")
        shared.talk(f"  End it:  {out.printable(resume_command(queue))}")
    else:
        state = "is consumed again" if before is None or before.holds(now) else "was not paused"
        out.emit(f"{shared.mark('✓')} {out.printable(queue)} {state}")
    return 0


async def _change(shared: Shared, store: Store, word: Pause) -> tuple[Pause, int | None, Pause | None]:
    """Gives the word as it was published, how many messages are ready, and the word that counted before; None if that
    is not known.
    """
    is_known = False
    with contextlib.suppress(PermissionRefused):  # who may not read the ledger has a clock, which usually is enough
        await catch_up(shared, store)
        is_known = True
    never = Pause(at=0.0, queue=word.queue, paused=False)
    before = next((pause for pause in store.pauses() if pause.queue == word.queue), never)
    # the newest word counts, also where the clock of the machine that said the last one goes before ours; a queue that
    # is not paused is resumed all the same, because workers know pauses for longer than the ledger does
    word, depth = await _publish(shared, msgspec.structs.replace(word, at=max(word.at, before.at + STEP_S)))
    return word, depth, before if is_known else None


async def _publish(shared: Shared, word: Pause) -> tuple[Pause, int | None]:
    settings = shared.settings
    async with Client(settings.url, timeout_s=settings.connect_timeout_s) as client:
        depth = await _depth(client, word.queue)
        word = msgspec.structs.replace(word, by=client.by)
        publisher = Publisher(client.connection, confirm_timeout_s=client.timeout_s)
        began = time.monotonic()
        try:
            answer = await publisher.publish_confirmed(event_message(word))
            if not isinstance(answer, Stored):
                # the exchange may not exist yet on a broker where no worker ever started
                await declare.declare_startup(client.connection, publisher)
                answer = await publisher.publish_confirmed(event_message(word))
        finally:
            publisher.close()
    if not isinstance(answer, Stored):
        state = "paused" if word.paused else "resumed"
        raise PauseUnconfirmed(until=client.until(began), queue=word.queue, state=state)
    return word, depth


async def _depth(client: Client, queue: str) -> int | None:
    try:
        depth = await client.depth(queue)
    except PermissionRefused:
        return None
    if depth is None:
        raise NotFound(message=f"There is no queue '{queue}'.", hint="jobrunner queues list")
    return depth[0]


def pause_document(pause: Pause | None) -> dict[str, Any] | None:
    """A pause as `--json` shows it."""
    if pause is None:
        return None
    until = None if pause.until is None else out.iso(pause.until)
    return {"at": out.iso(pause.at), "until": until, "by": pause.by, "reason": pause.reason or None}
