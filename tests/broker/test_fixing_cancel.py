"""Cancel against real brokers: many jobs in one record, kept for workers to come, told in the ledger."""

import time
from pathlib import Path

from jobrunner import events
from jobrunner.broker import control, declare
from jobrunner.broker.control import ControlPort, Reply, Request, reply_message
from jobrunner.broker.publisher import Publisher, event_message
from jobrunner.client import Client
from jobrunner.fixing.cancelling import Canceller, Proof
from jobrunner.view.rows import JobRow
from jobrunner.view.store import Store
from jobrunner.worker.tombstones import Tombstones
from tests.broker.lab import in_loop, lab
from tests.support.broker import TestBroker
from tests.support.made import a_job, publish, queued_event, synced


async def cancelled(broker: TestBroker, store: Store, rows: list[JobRow], **options: object) -> dict[str, Proof]:
    async with Client(broker.parsed) as client:
        proofs = await Canceller(store, client, **options).run(rows)  # type: ignore[arg-type]
    assert [one.id for one in proofs] == [row.id for row in rows]
    return {one.id: one for one in proofs}


def rows_of(store: Store, ids: list[str]) -> list[JobRow]:
    return [row for job_id in ids if (row := store.job(job_id)) is not None]


@in_loop
async def test_many_jobs_are_cancelled_by_one_record_that_later_workers_read(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    jobs = [a_job(queue_name) for _ in range(300)]
    ids = [job.job.id for job in jobs]
    await publish(broker.parsed, [queued_event(*jobs)])
    with await synced(tmp_path / "view.sqlite", broker.parsed) as store:
        proofs = await cancelled(broker, store, rows_of(store, ids), reason="enough", wait_s=5.0)
    assert {one.outcome for one in proofs.values()} == {"cancelled"}
    with await synced(tmp_path / "other.sqlite", broker.parsed) as store:
        assert {row.state for row in rows_of(store, ids)} == {"cancelled"}
    async with lab(broker.url) as here:
        tombstones = Tombstones(await here.connect(), lambda _: None, lambda _: None)
        await tombstones.read_all()
        found = [tombstones.find(job) for job in jobs]
        tombstones.close()
    assert {note.reason for note in found if note is not None} == {"enough"}
    assert None not in found


def worker_event(name: str, queue: str) -> events.Worker:
    now = time.time()
    facts = {"host": "h", "pid": 1, "version": "1", "python": "3", "slots": 1, "busy": 0, "queues": [queue]}
    return events.Worker(at=now, phase="online", name=name, started_at=now, **facts)  # type: ignore[arg-type]


@in_loop
async def test_what_a_worker_is_killing_stays_pending_until_its_end_is_told(
    broker: TestBroker, queue_name: str, tmp_path: Path
) -> None:
    """The other side is a worker's own ear, answered here by hand."""
    jobs = [a_job(queue_name) for _ in range(2)]
    slow, quick = jobs
    name = f"w-{queue_name}"[-60:]
    await publish(broker.parsed, [queued_event(*jobs), event_message(worker_event(name, queue_name))])
    async with lab(broker.url) as here:
        connection = await here.connect()
        publisher = Publisher(connection)
        await declare.declare_startup(connection, publisher)

        def answer(request: Request) -> None:
            states = {slow.job.id: "running", quick.job.id: "running"}
            if request.verb != "cancel" or not states.keys() & request.jobs.keys():
                return
            reply = Reply(
                worker=name,
                host="h",
                pid=1,
                version="1",
                slots=1,
                busy=1,
                queues=[queue_name],
                started_at=1.0,
                jobs=states,
            )
            publisher.publish(reply_message(request, reply), lambda _: None)
            end = events.Cancelled(at=time.time(), id=quick.job.id, reason="", signal="SIGINT", took_s=0.5)
            publisher.publish(event_message(end), lambda _: None)

        port = ControlPort(connection, control.keys_of(name, "h", (queue_name,)), answer)
        await port._inbound.ready
        with await synced(tmp_path / "view.sqlite", broker.parsed) as store:
            rows = rows_of(store, [job.job.id for job in jobs])
            proofs = await cancelled(broker, store, rows, signal="INT", wait_s=1.5)
        port.close()
        publisher.close()
    assert proofs[quick.job.id] == Proof(id=quick.job.id, outcome="killed", signal="SIGINT", took_s=0.5)
    assert proofs[slow.job.id] == Proof(id=slow.job.id, outcome="pending", workers=[name], is_running=True)
