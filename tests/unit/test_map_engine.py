"""What follows from the end of a job: results in order, calls of a batch on their own, a run taken up again."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from jobrunner.envelope import MAX_JOB_BYTES
from jobrunner.errors import MessageTooLarge
from jobrunner.ids import is_id
from jobrunner.mapping.ends import Ends
from jobrunner.mapping.inputs import BadInput, Input
from jobrunner.mapping.items import Ended, Item, Job
from jobrunner.mapping.known import Known
from jobrunner.mapping.line import Line
from jobrunner.mapping.queueing import pieces
from jobrunner.mapping.recipe import Recipe
from jobrunner.mapping.resuming import COPY_STEP, Resuming
from jobrunner.mapping.template import Call, Command
from jobrunner.outcome import Error, Part
from jobrunner.watch import End
from jobrunner.wishes import Wishes


def item(seq: int, text: str | None = None) -> Item:
    return Item(Input(text or f"in-{seq}"), seq, f"{seq:016d}")


def end(job_id: str, state: str = "succeeded", **fields: Any) -> End:
    result = msgspec.Raw(b"1") if state == "succeeded" else None
    return End(**{"id": job_id, "state": state, "attempt": 1, "result": result, **fields})


class Scene:
    """Ends and a line, and what came of them."""

    def __init__(self, limit: int = 100, *, ordered: bool = True, retries: int | None = None) -> None:
        self.results: list[Ended] = []
        self.ended: list[int] = []
        self.alone: list[Item] = []
        self.line = Line(limit, lambda ended: self.ended.append(ended.seq), self.results.append, ordered=ordered)
        self.ends = Ends(self.line, self.alone.extend, retries=retries)

    def expect(self, *items: Item, chain: int = 0) -> None:
        for one in items:
            self.line.add(one)
            self.ends.expect(one.id, Job([one], chain, time.time()))

    def batch(self, job_id: str, *items: Item) -> None:
        self.line.add_all(items)
        self.ends.expect(job_id, Job(list(items), 0, time.time(), list(range(len(items)))))

    @property
    def shown(self) -> list[tuple[int, str]]:
        return [(ended.seq, ended.state) for ended in self.results]


def test_a_call_of_a_batch_tells_where_and_when_the_batch_ran() -> None:
    scene = Scene()
    scene.batch("b" * 16, item(1))
    result = parts(Part(result=msgspec.Raw(b"2")))
    scene.ends.take(end("b" * 16, result=result, started_at=5.0, took_s=9.0, host="web3"))
    assert [(one.started_at, one.host, one.took_s) for one in scene.results] == [(5.0, "web3", None)]


def test_results_wait_for_their_turn() -> None:
    scene = Scene()
    scene.expect(item(1), item(2), item(3))
    scene.ends.take(end(item(3).id))
    scene.ends.take(end(item(2).id, "dead"))
    assert (scene.ended, scene.shown, scene.line.room) == ([3, 2], [], 97)
    scene.ends.take(end(item(1).id))
    assert scene.shown == [(1, "succeeded"), (2, "dead"), (3, "succeeded")]
    assert scene.line.room == 100
    assert (scene.line.counts.succeeded, scene.line.counts.failed, scene.line.counts.open) == (2, 1, 0)


def test_unordered_results_come_at_once() -> None:
    scene = Scene(ordered=False)
    scene.expect(item(1), item(2))
    scene.ends.take(end(item(2).id))
    assert scene.shown == [(2, "succeeded")]
    assert scene.line.room == 99


def test_what_ended_behind_one_that_goes_on_is_given_when_nothing_is_waited_for() -> None:
    scene = Scene()
    scene.expect(item(1), item(2))
    scene.ends.take(end(item(2).id))
    scene.line.give_all()
    assert scene.shown == [(2, "succeeded")]


def test_an_end_counts_once_and_none_of_an_earlier_chain_or_of_another_job() -> None:
    scene = Scene()
    scene.expect(item(1), item(2), chain=1)
    assert not scene.ends.wants(item(1).id, 0)
    scene.ends.take(end(item(1).id, "dead"))
    scene.ends.take(end("x" * 16, chain=1))
    assert scene.ended == []
    for _ in range(2):
        scene.ends.take(end(item(1).id, chain=1))
    assert scene.ended == [1]
    assert scene.ends.open() == {item(2).id: 1}


def parts(*found: Part | None) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(found))


def test_each_call_of_a_batch_has_an_end_of_its_own() -> None:
    scene = Scene()
    items = [item(seq) for seq in range(1, 6)]
    scene.batch("b" * 16, *items)
    flaky, final = Error(reason="error", message="not yet"), Error(reason="permanent", message="no")
    scene.ends.take(
        end("b" * 16, result=parts(Part(result=msgspec.Raw(b"2")), Part(error=flaky), None, Part(error=final), Part()))
    )
    assert [one.seq for one in scene.alone] == [2, 3]
    assert sorted(scene.ended) == [1, 4, 5]
    assert scene.shown == [(1, "succeeded")]
    assert bytes(scene.results[0].result or b"") == b"2"


@pytest.mark.parametrize(("retries", "once"), [(0, False), (None, True)])
def test_without_retries_a_call_that_failed_is_dead_and_one_that_did_not_run_still_runs(
    retries: int | None, once: bool
) -> None:
    scene = Scene(retries=retries)
    scene.batch("b" * 16, item(1), item(2))
    scene.ends.take(end("b" * 16, result=parts(Part(error=Error(reason="error", message="no"), once=once), None)))
    assert scene.shown == [(1, "dead")]
    assert [one.seq for one in scene.alone] == [2]


def test_what_a_run_wishes_goes_before_what_a_function_says() -> None:
    scene = Scene(retries=1)
    scene.batch("b" * 16, item(1))
    scene.ends.take(end("b" * 16, result=parts(Part(error=Error(reason="error", message="no"), once=True))))
    assert [one.seq for one in scene.alone] == [1]


@pytest.mark.parametrize(
    ("state", "fields", "alone"),
    [
        ("dead", {"error": Error(reason="crash", message="died", signal="SIGKILL")}, 2),
        ("dead", {"error": Error(reason="timeout", message="over 5 s")}, 2),
        ("dead", {"error": Error(reason="not_allowed", message="no")}, 0),
        ("cancelled", {}, 0),
        ("expired", {}, 0),
        ("succeeded", {"truncated": True}, 2),
        ("succeeded", {"result": msgspec.Raw(b'"no list"')}, 2),
    ],
)
def test_what_a_batch_died_of_is_tried_alone_unless_nothing_would_come_of_it(
    state: str, fields: dict[str, Any], alone: int
) -> None:
    scene = Scene()
    scene.batch("b" * 16, item(1), item(2))
    scene.ends.take(end("b" * 16, state, **fields))
    assert len(scene.alone) == alone
    assert len(scene.ended) == 2 - alone


def test_what_goes_on_when_nothing_is_waited_for_any_more_is_cancelled() -> None:
    scene = Scene()
    scene.expect(item(1))
    scene.batch("b" * 16, item(2), item(3))
    scene.ends.give_up()
    assert scene.shown == [(1, "cancelled"), (2, "cancelled"), (3, "cancelled")]


def test_jobs_that_run_are_counted_until_their_end() -> None:
    scene = Scene()
    scene.expect(item(1), item(2))
    for one in ("0" * 16, item(1).id, item(2).id):
        scene.ends.note_running(one, True)
    assert len(scene.ends.running) == 2
    scene.ends.note_running(item(2).id, False)
    scene.ends.take(end(item(1).id))
    assert scene.ends.running == set()


# --- a run that is taken up again -----------------------------------------------------------------------------------


class Past:
    """What the ledger tells. later: ends that are found when it is read again."""

    def __init__(self, known: dict[str, Known], later: dict[str, End] | None = None) -> None:
        self.known = known
        self.later = later or {}
        self.active: dict[str, int] = {}
        self.reads = 0

    async def refresh(self) -> None:
        self.reads += 1

    def find(self, item_id: str) -> Known | None:
        return self.known.get(item_id)

    def end_of(self, job_id: str) -> End | None:
        return self.later.get(job_id) if self.reads else None

    def batches(self) -> dict[str, int]:
        return self.active

    def count(self) -> int:
        return len(self.known)


def sort(past: Past, scene: Scene, items: list[Item], **settings: bool) -> list[int]:
    async def work() -> list[Item]:
        resuming = Resuming(past, scene.line, scene.ends, **{"only_dead": False, "waits": True, **settings})
        await resuming.begin()
        return await resuming.sort(items)

    return [one.seq for one in asyncio.run(work())]


STATES = ["succeeded", "dead", "cancelled", "expired", "active"]
ITEMS = [item(seq) for seq in range(1, 7)]


def known_states() -> dict[str, Known]:
    return {one.id: Known(state=state, chain=2, copy=5) for one, state in zip(ITEMS, STATES, strict=False)}


def test_resume_runs_what_has_not_succeeded_and_waits_for_what_goes_on() -> None:
    scene, items = Scene(), [item(seq) for seq in range(1, 7)]
    assert sort(Past(known_states()), scene, items) == [2, 3, 4, 6]
    assert [(one.chain, one.copy) for one in items[1:4]] == [(3, 5 + COPY_STEP)] * 3
    assert (items[5].chain, items[5].copy) == (0, 0)
    assert scene.ends.open() == {items[4].id: 2}
    assert (scene.line.counts.skipped, scene.line.counts.added) == (1, 5)


def test_retry_failed_runs_what_is_dead_and_nothing_else() -> None:
    scene = Scene()
    assert sort(Past(known_states()), scene, [item(seq) for seq in range(1, 7)], only_dead=True) == [2]
    assert (scene.line.counts.skipped, scene.line.counts.added) == (5, 1)


def test_the_dead_letter_of_a_job_that_is_not_queued_after_all_stays() -> None:
    async def requeued() -> tuple[int, int]:
        scene, dead = Scene(), item(2)
        resuming = Resuming(Past(known_states()), scene.line, scene.ends, only_dead=True, waits=True)
        todo = await resuming.sort([dead])
        before = len(resuming.requeued)
        resuming.withdraw(todo)
        return before, len(resuming.requeued)

    assert asyncio.run(requeued()) == (1, 0)


def test_a_detached_map_skips_what_goes_on() -> None:
    scene = Scene(ordered=False)
    assert sort(Past(known_states()), scene, [item(seq) for seq in range(1, 7)], waits=False) == [2, 3, 4, 6]
    assert scene.line.counts.skipped == 2


def test_a_job_that_ended_before_it_was_waited_for_is_not_missed() -> None:
    scene = Scene()
    past = Past({item(1).id: Known(state="active", chain=0)}, {item(1).id: end(item(1).id)})
    assert sort(past, scene, [item(1)]) == []
    assert scene.shown == [(1, "succeeded")]


def test_inputs_of_a_batch_that_goes_on_are_decided_by_it_whenever_they_are_read() -> None:
    scene = Scene()
    past = Past({item(seq).id: Known(state="active", job_id="b" * 16, index=seq - 1) for seq in (1, 2)})
    past.active = {"b" * 16: 0}
    assert sort(past, scene, [item(2)]) == []
    result = parts(Part(result=msgspec.Raw(b"10")), Part(result=msgspec.Raw(b"20")))
    scene.ends.take(end("b" * 16, result=result))
    late = item(1)
    scene.line.add(late)
    scene.ends.join("b" * 16, late, 0)
    assert [bytes(ended.result or b"") for ended in scene.results] == [b"20", b"10"]


def test_results_of_new_and_of_old_jobs_keep_the_order_of_the_inputs() -> None:
    scene, items = Scene(), [item(seq) for seq in (1, 2, 3)]
    assert sort(Past({items[1].id: Known(state="active", chain=0)}), scene, items) == [1, 3]
    scene.ends.expect(items[0].id, Job([items[0]], 0, 0.0))
    scene.ends.expect(items[2].id, Job([items[2]], 0, 0.0))
    for one in reversed(items):
        scene.ends.take(end(one.id))
    assert [seq for seq, _ in scene.shown] == [1, 2, 3]


# --- jobs of inputs -------------------------------------------------------------------------------------------------


def recipe(**fields: Any) -> Recipe:
    wishes = Wishes(retries=2, tags=["x"])
    return Recipe(**{"run": "r", "wishes": wishes, "user": "me@here", "task": "tasks:f", **fields})


CALL = Call([], has_keys=False)


def test_the_job_of_an_input_knows_what_it_was_made_of() -> None:
    made = recipe(call=CALL)
    one = Item(Input("7"), 3, made.item_id("7", 1))
    job = made.alone(one).job
    assert (job.id, job.run, job.seq, job.input, job.template) == (one.id, "r", 3, "7", "tasks:f {}")
    assert (job.task, bytes(job.args), job.max_attempts, job.tags, job.user) == ("tasks:f", b"[7]", 3, ["x"], "me@here")


def test_ids_follow_from_run_input_and_which_of_equal_ones_it_is() -> None:
    ids = {recipe(run=run).item_id(text, nth) for run in ("r", "s") for text in ("a", "b") for nth in (1, 2)}
    assert len(ids) == 8
    assert all(is_id(found) for found in ids)
    assert recipe().item_id("a", 1) in ids


def test_a_job_that_is_queued_once_more_is_its_next_chain() -> None:
    one = item(1)
    one.chain, one.copy = 2, 1005
    state = recipe(command=Command(["echo"], has_keys=False), task=None).alone(one).state
    assert (state.chain, state.copy, state.attempt) == (2, 1005, 0)


def test_a_large_input_is_no_variable() -> None:
    assert recipe(call=CALL).alone(item(1, "x" * 5000)).job.input is None


def test_a_batch_holds_the_calls_and_what_each_would_be_alone() -> None:
    made = recipe(call=CALL, batch=2)
    items = [item(4, "1"), item(5, "b")]
    job = made.together(items, [made.part(one) for one in items], is_again=False).job
    assert bytes(job.batch) == b'[[[1],{}],[["b"],{}]]'
    assert (job.items, job.seq, job.max_attempts) == ([items[0].id, items[1].id], 4, 1)
    assert job.template == "tasks:f {}  (in batches)"
    ids = {made.together(items, [b"[[],{}]"] * 2, is_again=is_again).job.id for is_again in (False, False, True, True)}
    assert len(ids) == 3


def test_no_job_is_made_of_what_is_no_input_or_too_large() -> None:
    with pytest.raises(BadInput, match=r"it is not UTF-8\."):
        recipe(call=CALL).alone(Item(Input("x", problem="it is not UTF-8"), 1, "0" * 16))
    with pytest.raises(MessageTooLarge):
        recipe(call=CALL).alone(item(1, "x" * MAX_JOB_BYTES))


def test_pieces_hold_what_one_record_may() -> None:
    small = recipe(call=CALL).alone(item(1))
    large = recipe(call=CALL).alone(item(2, "x" * 200_000))
    assert [len(piece) for piece in pieces([small] * 1100)] == [500, 500, 100]
    assert [len(piece) for piece in pieces([small, large, large, small])] == [2, 2]
    assert list(pieces([])) == []
