"""Many publishes at once: the answers to all of them, and the grouping of jobs that one record holds."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing

from jobrunner import events
from jobrunner.broker.publisher import Answer, Message, Publisher
from jobrunner.envelope import Envelope


async def all_answers(publisher: Publisher, messages: Sequence[Message]) -> list[Answer]:
    """Publish all, in order, and wait for the answer to each."""
    answers: list[Answer | None] = [None] * len(messages)
    left = len(messages)
    done = asyncio.get_running_loop().create_future()

    def answered(index: int, answer: Answer) -> None:
        nonlocal left
        answers[index] = answer
        left -= 1
        if not left and not done.done():
            done.set_result(None)

    for index, message in enumerate(messages):
        publisher.publish(message, lambda answer, index=index: answered(index, answer))  # type: ignore[misc]
    if messages:
        await done
    return [answer for answer in answers if answer is not None]


async def batched(envelopes: Iterable[Envelope] | AsyncIterable[Envelope]) -> AsyncGenerator[list[Envelope]]:
    """Batches of one `queued` event: up to 500 jobs and 256 KiB."""
    batch: list[Envelope] = []
    size = 0
    async with aclosing(_each(envelopes)) as each:
        async for envelope in each:
            if batch and size + len(envelope.body) > events.QUEUED_BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(envelope)
            size += len(envelope.body)
            if len(batch) >= events.QUEUED_BATCH_JOBS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


async def _each(envelopes: Iterable[Envelope] | AsyncIterable[Envelope]) -> AsyncGenerator[Envelope]:
    if isinstance(envelopes, AsyncIterable):
        async for envelope in envelopes:
            yield envelope
        return
    for envelope in envelopes:
        yield envelope
