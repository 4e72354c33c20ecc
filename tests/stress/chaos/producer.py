"""A producer of a chaos run: it notes what it is about to enqueue before each publish, and what it was told after.

    python -m tests.stress.chaos.producer URL LEDGER SEED RATE [KIND]

KIND: all jobs are of that one. Ends at SIGTERM, after the answer to what is under way.
"""

import asyncio
import json
import random
import signal
import sys
from pathlib import Path

import msgspec

from jobrunner.brokerurl import parse_url
from jobrunner.client import Client
from jobrunner.envelope import Envelope, new_job, seal
from jobrunner.errors import JobrunnerError, Unconfirmed
from tests.stress.chaos.notes import Notes

KINDS = {
    "quick": (0.72, 0.0, 0.02),
    "short": (0.12, 0.02, 0.5),
    "long": (0.01, 1.0, 8.0),
    "longest": (0.002, 25.0, 35.0),
    "flaky": (0.06, 0.0, 0.0),
    "fails": (0.02, 0.0, 0.0),
    "permanent": (0.01, 0.0, 0.0),
    "crash": (0.006, 0.0, 0.0),
    "timeout": (0.004, 0.0, 0.0),
    "tree": (0.01, 0.0, 0.0),
    "big": (0.008, 0.0, 0.0),
    "delayed": (0.025, 0.0, 0.01),
    "hog": (0.005, 0.0, 0.0),
    "steady": (0.0, 2.5, 3.5),
}
"""kind: share, shortest and longest run in seconds. Without a share: only where it is asked for."""

QUEUES = {"main": 0.93, "doomed": 0.07}
TIMEOUT_S = 8.0


class Producer:
    """Enqueues singly and in batches, and sends again half of what was not confirmed."""

    def __init__(self, url: str, notes: Notes, seed: str, rate: float, kind: str | None) -> None:
        self.url = parse_url(url, origin="the command line")
        self.notes = notes
        self.random = random.Random(seed)
        self.rate = rate
        self.kind = kind
        self.stopped = asyncio.Event()
        self.unknown: list[Envelope] = []

    async def run(self) -> None:
        while not self.stopped.is_set():
            try:
                async with Client(self.url, timeout_s=TIMEOUT_S) as client:
                    await self.produce(client)
            except JobrunnerError:
                await self.rest(0.5)

    async def produce(self, client: Client) -> None:
        """Until it fails or is stopped; a failed connection is made anew by `run`."""
        while not self.stopped.is_set():
            size = self.random.choice([1, 1, 1, 4, 12])
            batch = [self.make() for _ in range(size)]
            self.notes.write_all([self.line("intent", envelope) for envelope in batch])
            await self.send(client, batch)
            if self.unknown and self.random.random() < 0.5:
                again = self.unknown.pop()
                self.notes.write_all([self.line("resend", again)])
                await self.send(client, [again])
            self.unknown.clear()
            await self.rest(self.random.expovariate(self.rate / size))

    async def send(self, client: Client, batch: list[Envelope]) -> None:
        answers: list[JobrunnerError | None]
        try:
            if len(batch) == 1:
                await client.enqueue(batch[0])
                answers = [None]
            else:
                answers = await client.enqueue_batch(batch)
        except JobrunnerError as exc:
            answers = [exc] * len(batch)
        lines = []
        for envelope, answer in zip(batch, answers, strict=True):
            word = "ok" if answer is None else "unknown" if isinstance(answer, Unconfirmed) else "nothing"
            if word == "unknown":
                self.unknown.append(envelope)
            lines.append({"do": word, "id": envelope.job.id, "why": type(answer).__name__})
        self.notes.write_all(lines)
        if any(answers):
            await self.rest(0.3)

    def make(self) -> Envelope:
        kind = self.kind or self.random.choices(list(KINDS), [share for share, _, _ in KINDS.values()])[0]
        seconds = round(self.random.uniform(*KINDS[kind][1:]), 4)
        queue = self.random.choices(list(QUEUES), list(QUEUES.values()))[0]
        limits = {"timeout_s": 1.0, "max_attempts": 1} if kind == "timeout" else {}
        args = msgspec.Raw(msgspec.json.encode([kind, seconds]))
        job = new_job(queue=queue, task="chaos_jobs:act", args=args, label=kind, **limits)
        return seal(job, not_before_s=job.iat + self.random.uniform(0.5, 3.0) if kind == "delayed" else None)

    @staticmethod
    def line(word: str, envelope: Envelope) -> dict[str, str | float]:
        job, not_before_ms = envelope.job, envelope.state.not_before_ms
        delay = {"delay": round(not_before_ms / 1000 - job.iat, 3)} if not_before_ms else {}
        return {"do": word, "id": job.id, "kind": job.label or "", "queue": job.queue, **delay}

    async def rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, 5.0)):
                await self.stopped.wait()
        except TimeoutError:
            pass


async def main() -> None:
    url, ledger, seed, rate, *kind = sys.argv[1:]
    producer = Producer(url, Notes(Path(ledger)), seed, float(rate), kind[0] if kind else None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, producer.stopped.set)
    await producer.run()


if __name__ == "__main__":
    asyncio.run(main())
    print(json.dumps("ended"))
