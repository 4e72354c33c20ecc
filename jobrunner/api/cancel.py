"""Cancelling jobs: a tombstone for workers that come later, then a word to those that are there."""

import time

from jobrunner import events
from jobrunner.broker import control, declare
from jobrunner.broker.connection import Connection
from jobrunner.broker.publisher import Publisher, Stored, event_message
from jobrunner.config import BrokerUrl
from jobrunner.durations import format_duration
from jobrunner.errors import BrokerTimeout

HEARD_S = 0.5
"""Wait for the first worker's answer. None has to be there: the tombstone is what counts."""


async def cancel(url: BrokerUrl, jobs: dict[str, int], *, reason: str, by: str, timeout_s: float) -> None:
    """Cancel jobs. jobs: id -> chain, as the ledger tells it. Returns once the wish is stored and workers were told.

    Raises: the broker's errors; BrokerTimeout when it did not confirm.
    """
    connection = Connection(url, role="cancel", notify=lambda _: None, connect_timeout_s=timeout_s)
    await connection.connect_once()
    publisher = Publisher(connection, confirm_timeout_s=timeout_s)
    try:
        wish = event_message(events.Cancel(at=time.time(), jobs=jobs, reason=reason, by=by))
        answer = await publisher.publish_confirmed(wish)
        if not isinstance(answer, Stored):
            # no worker ever started here, so the exchange may be missing
            await declare.declare_startup(connection, publisher)
            answer = await publisher.publish_confirmed(wish)
        if not isinstance(answer, Stored):
            raise BrokerTimeout(address=url.address, timeout=format_duration(timeout_s))
        await control.ask(connection, "all", "cancel", timeout_s=HEARD_S, expected=1, jobs=jobs, reason=reason, by=by)
    finally:
        await connection.close()
        publisher.close()
