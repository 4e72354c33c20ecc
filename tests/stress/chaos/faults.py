"""What is done to a chaos run. Each fault is one function: it strikes, lasts, and mends; its note says when and whom.

scope of a fault: the workers whose deliveries it can take away. most: how many second runs it can explain.
"""

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.stress.chaos.crew import PROCS, Crew, Member, Wire
from tests.stress.chaos.notes import Notes
from tests.support.broker import TestBroker

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
LADDER = 8
"""Messages between two levels of the ladder that a broker may send again after its death."""

POINTS = [
    "consume.after_deliver",
    "dispatch.before_send",
    "dispatch.after_send",
    "settle.before_publish",
    "settle.after_publish",
    "settle.after_confirm",
    "settle.after_ack",
]


@dataclass
class Field:
    """Where the faults happen. longest_s: of those that last."""

    broker: TestBroker
    crew: Crew
    wires: dict[str, Wire]
    notes: Notes
    random: random.Random
    longest_s: float
    cgroup: Path | None

    async def ctl(self, *args: str) -> None:
        await asyncio.to_thread(self.broker.ctl, *args)

    async def last(self, shortest_s: float, longest_s: float) -> None:
        await asyncio.sleep(self.random.uniform(shortest_s, min(longest_s, self.longest_s)))

    def worker(self) -> Member:
        return self.random.choice(self.crew.workers)

    @property
    def everyone(self) -> list[str]:
        return [worker.name for worker in self.crew.workers]


Fault = Callable[[Field], Awaitable[dict[str, object]]]
BROKER: dict[str, Fault] = {}
OTHER: dict[str, Fault] = {}


def _fault(table: dict[str, Fault]) -> Callable[[Fault], Fault]:
    def add(fault: Fault) -> Fault:
        table[fault.__name__] = fault
        return fault

    return add


def _all(field: Field, **more: object) -> dict[str, object]:
    return {"scope": field.everyone, "most": PROCS * len(field.everyone) + LADDER} | more


def one(worker: Member, **more: object) -> dict[str, object]:
    return {"scope": [worker.name], "most": PROCS} | more


# --- the broker -----------------------------------------------------------------------------------------------------


@_fault(BROKER)
async def broker_killed(field: Field) -> dict[str, object]:
    await asyncio.to_thread(field.broker.kill9)
    await field.last(0, 4)
    await asyncio.to_thread(field.broker.start)
    return _all(field)


@_fault(BROKER)
async def broker_stopped_app(field: Field) -> dict[str, object]:
    await field.ctl("stop_app")
    await field.last(0, 4)
    await field.ctl("start_app")
    return _all(field)


@_fault(BROKER)
async def broker_frozen(field: Field) -> dict[str, object]:
    field.broker.freeze()
    try:
        await field.last(5, 60)
    finally:
        field.broker.thaw()
    return _all(field)


@_fault(BROKER)
async def connections_closed(field: Field) -> dict[str, object]:
    await field.ctl("close_all_connections", "-p", "jobrunner", "chaos")
    return _all(field)


@_fault(BROKER)
async def memory_alarm(field: Field) -> dict[str, object]:
    await field.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        await field.last(3, 20)
    finally:
        await field.ctl("set_vm_memory_high_watermark", "0.4")
    return _all(field, most=0)


@_fault(BROKER)
async def disk_alarm(field: Field) -> dict[str, object]:
    await field.ctl("set_disk_free_limit", "99999GB")
    try:
        await field.last(3, 20)
    finally:
        await field.ctl("set_disk_free_limit", "200MB")
    return _all(field, most=0)


@_fault(BROKER)
async def queue_full(field: Field) -> dict[str, object]:
    """The limit is raised before it goes: RabbitMQ tells those who publish that a queue takes messages again when it is
    below its limit, but not when the limit is gone. The delay ladder would be one that waits for that word for ever.
    """
    await field.ctl(*LIMIT, FULL.format(3))
    try:
        await field.last(3, 15)
    finally:
        await field.ctl(*LIMIT, FULL.format(1_000_000))
        await asyncio.sleep(1)
        await field.ctl("clear_policy", "-p", "jobrunner", "chaos")
    return _all(field, most=0)


LIMIT = ("set_policy", "-p", "jobrunner", "--priority", "50", "chaos", "^main$")
FULL = '{{"max-length":{},"overflow":"reject-publish","dead-letter-exchange":"jobrunner.v1.dlx"}}'


@_fault(BROKER)
async def queue_deleted(field: Field) -> dict[str, object]:
    """The one fault that may lose jobs: those that wait in that queue then."""
    try:
        await field.ctl("delete_queue", "-p", "jobrunner", "doomed")
    except AssertionError as exc:
        if "Queue not found" not in str(exc):  # no worker has made it again yet
            raise
    return _all(field, deleted="doomed")


@_fault(BROKER)
async def binding_lost(field: Field) -> dict[str, object]:
    """Nothing takes the facts: they come back as unroutable until someone declares the way again."""
    which = field.random.choice(["ledger", "dead"])
    exchange = {"ledger": "jobrunner.v1.events", "dead": "jobrunner.v1.dlx"}[which]
    key = {"ledger": "#", "dead": ""}[which]
    await field.ctl("eval", UNBIND.format(exchange=exchange, queue=f"jobrunner.v1.{which}", key=key))
    return _all(field, most=0, lost=which)


UNBIND = (
    'rabbit_binding:remove({{binding, rabbit_misc:r(<<"jobrunner">>, exchange, <<"{exchange}">>), <<"{key}">>, '
    'rabbit_misc:r(<<"jobrunner">>, queue, <<"{queue}">>), []}}, <<"chaos">>).'
)


@_fault(BROKER)
async def ack_timeout(field: Field) -> dict[str, object]:
    """Whatever runs longer than 20 s is taken back from its worker."""
    await field.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    await field.ctl("eval", "application:set_env(rabbit, consumer_timeout, 20000).")
    await field.ctl("close_all_connections", "-p", "jobrunner", "chaos: channels with a short tick")
    try:
        await field.last(22, 45)
    finally:
        await field.ctl("eval", "application:set_env(rabbit, consumer_timeout, 86400000).")
        await field.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")
    return _all(field, most=200)


# --- the wire -------------------------------------------------------------------------------------------------------


def _wire(field: Field) -> tuple[Wire, dict[str, object]]:
    name = field.random.choice(list(field.wires))
    worker = next((worker for worker in field.crew.workers if worker.name == name), None)
    return field.wires[name], one(worker, wire=name) if worker else {"scope": [], "most": 0, "wire": name}


@_fault(OTHER)
async def wire_cut(field: Field) -> dict[str, object]:
    wire, whom = _wire(field)
    wire.cut(reset=field.random.random() < 0.5)
    return whom


@_fault(OTHER)
async def wire_cut_at_byte(field: Field) -> dict[str, object]:
    wire, whom = _wire(field)
    wire.cut_after(field.random.choice(["up", "down"]), field.random.randint(1, 4000), reset=True)
    await field.last(2, 4)
    for lane in wire.lanes.values():
        lane.cut_at = None
    return whom


@_fault(OTHER)
async def wire_stalled(field: Field) -> dict[str, object]:
    wire, whom = _wire(field)
    wire.stall(*field.random.choice([("up",), ("down",), ("up", "down")]))
    try:
        await field.last(3, 60)
    finally:
        wire.flow()
    return whom


@_fault(OTHER)
async def answers_lost(field: Field) -> dict[str, object]:
    """What the broker says is lost, then the connection: was it stored, was it acked?"""
    wire, whom = _wire(field)
    wire.stall("down")
    await field.last(0.2, 2)
    wire.cut(reset=True)
    wire.flow()
    return whom


@_fault(OTHER)
async def wire_slow(field: Field) -> dict[str, object]:
    wire, whom = _wire(field)
    for lane in wire.lanes.values():
        lane.delay_s = 0.15
    try:
        await field.last(3, 15)
    finally:
        for lane in wire.lanes.values():
            lane.delay_s = 0.0
    return whom


@_fault(OTHER)
async def black_hole(field: Field) -> dict[str, object]:
    """Packets of this run's broker are dropped by the kernel, or where that cannot be, all wires stand still."""
    drop = ["-p", "tcp", "-i", "lo", "--dport", str(field.broker.port), "-j", "DROP"]
    real = shutil.which("iptables") is not None and await _iptables("-I", drop)
    if not real:
        for wire in field.wires.values():
            wire.stall()
    try:
        await field.last(3, 45)
    finally:
        if real:
            await _iptables("-D", drop)
        for wire in field.wires.values():
            wire.flow()
    return _all(field, iptables=real)


async def _iptables(action: str, rule: list[str]) -> bool:
    process = await asyncio.create_subprocess_exec(
        "iptables", action, "INPUT", *rule, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


# --- workers and producers ------------------------------------------------------------------------------------------


@_fault(OTHER)
async def worker_killed(field: Field) -> dict[str, object]:
    worker = field.worker()
    if worker.lives:
        os.kill(worker.pid, signal.SIGKILL)
    return one(worker)


@_fault(OTHER)
async def worker_killed_at_point(field: Field) -> dict[str, object]:
    """Killed, and its successor too, at a chosen step of one of its first jobs."""
    worker = field.worker()
    point = f"{field.random.choice(POINTS)}:kill:{field.random.randint(3, 40)}"
    worker.once["JOBRUNNER_FAILPOINT"] = point
    if worker.lives:
        os.kill(worker.pid, signal.SIGKILL)
    starts = worker.starts
    for _ in range(100):
        await asyncio.sleep(0.1)
        if worker.starts > starts + 1:
            break
    return one(worker, most=PROCS * 2, point=point)


@_fault(OTHER)
async def worker_killed_settling(field: Field) -> dict[str, object]:
    """Killed where the order of publish and ack decides."""
    worker = field.worker()
    worker.once["JOBRUNNER_FAILPOINT"] = f"settle.{field.random.choice(['before', 'after'])}_publish:kill:2"
    if worker.lives:
        os.kill(worker.pid, signal.SIGKILL)
    await field.last(5, 8)
    return one(worker, most=PROCS * 2)


@_fault(OTHER)
async def child_killed_in_frame(field: Field) -> dict[str, object]:
    """A worker whose children die in the middle of what they say."""
    worker = field.worker()
    worker.once["JOBRUNNER_FAILPOINT"] = f"child.mid_frame:kill:{field.random.randint(3, 12)}"
    if worker.lives:
        os.kill(worker.pid, signal.SIGKILL)
    await field.last(6, 10)
    if worker.lives:
        os.kill(worker.pid, signal.SIGKILL)
    return one(worker, most=40)


@_fault(OTHER)
async def worker_stopped(field: Field) -> dict[str, object]:
    worker = field.worker()
    if not worker.lives:
        return one(worker)
    pid = worker.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await field.last(5, 90)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return one(worker)


@_fault(OTHER)
async def worker_terminated(field: Field) -> dict[str, object]:
    """SIGTERM; every second time again, before its grace is over."""
    worker = field.worker()
    if not worker.lives:
        return one(worker)
    pid, starts = worker.pid, worker.starts
    os.kill(pid, signal.SIGTERM)
    twice = field.random.random() < 0.5
    if twice:
        await field.last(0.05, 1.0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for _ in range(200):
        await asyncio.sleep(0.1)
        if worker.starts > starts:
            break
    return one(worker, twice=twice)


async def _child(field: Field, number: int) -> dict[str, object]:
    worker = field.worker()
    pids = worker.children() if worker.lives else []
    if not pids:
        return one(worker, most=0)
    pid = field.random.choice(pids)
    os.kill(pid, number)
    if number == signal.SIGSTOP:
        await field.last(3, 30)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return one(worker, most=1, child=pid)


@_fault(OTHER)
async def child_killed(field: Field) -> dict[str, object]:
    return await _child(field, signal.SIGKILL)


@_fault(OTHER)
async def child_stopped(field: Field) -> dict[str, object]:
    return await _child(field, signal.SIGSTOP)


@_fault(OTHER)
async def app_broken(field: Field) -> dict[str, object]:
    """A deploy that cannot be imported, until it is mended."""
    worker = field.worker()
    app = worker.folder / "chaos_jobs.py"
    good = app.read_text()
    app.write_text("this is no Python\n")
    try:
        for pid in worker.children() if worker.lives else []:
            os.kill(pid, signal.SIGKILL)
        await field.last(3, 8)
    finally:
        app.write_text(good)
    return one(worker)


@_fault(OTHER)
async def no_files(field: Field) -> dict[str, object]:
    """A worker that can open no file, while its connection is cut and a child dies."""
    worker = field.worker()
    if not worker.lives:
        return one(worker)
    pid = worker.pid
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, old[1]))
    try:
        field.wires[worker.name].cut()
        for child in worker.children()[:1]:
            os.kill(child, signal.SIGKILL)
        await field.last(3, 10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    return one(worker, most=PROCS + 1)


@_fault(OTHER)
async def clock_jump(field: Field) -> dict[str, object]:
    """The wall clock of one worker is an hour ahead, or behind, or a day ahead."""
    worker = field.worker()
    clock = worker.folder / "clock"
    offset = field.random.choice(["+3600", "-3600", "+86400"])
    clock.write_text(offset)
    try:
        await field.last(5, 12)
    finally:
        clock.write_text("+0")
        await asyncio.sleep(2)
    return one(worker, most=0, offset=offset)


@_fault(OTHER)
async def producer_killed(field: Field) -> dict[str, object]:
    producer = field.random.choice(field.crew.producers)
    if producer.lives:
        os.kill(producer.pid, signal.SIGKILL)
    return {"scope": [], "most": 0, "producer": producer.name}


def clock_env(folder: Path) -> dict[str, str]:
    """The environment of a worker whose wall clock follows a file; empty where libfaketime is not installed."""
    if FAKETIME is None:
        return {}
    (folder / "clock").write_text("+0")
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def available() -> dict[str, str]:
    """What cannot be done here, by the name of the fault, and why."""
    return {} if FAKETIME is not None else {"clock_jump": "libfaketime is not installed"}
