"""What a worker runs, and what becomes of the rest: each refusal has its reason."""

import dataclasses

import msgspec
import pytest

from jobrunner import envelope
from jobrunner.envelope import Envelope, State
from jobrunner.ids import id_of
from jobrunner.outcome import Dead, Expired, Park, Redelay, RunAgain, Verdict
from jobrunner.registry import FunctionSpec
from jobrunner.worker import admission, reading
from jobrunner.worker.policy import ANY_MODULE, Policy
from jobrunner.worker.reading import Unreadable

NOW = 1_800_000_000.0


@dataclasses.dataclass
class Received:
    """The facts of a delivery that admission reads."""

    body: bytes = b""
    message_id: str | None = None
    content_encoding: str | None = None
    priority: int | None = None
    headers: dict[str, object] = dataclasses.field(default_factory=dict)
    redelivered: bool = False
    delivery_count: int | None = None
    queue: str = "task_queue"


def policy(**changes: object) -> Policy:
    known = {"tasks:add": FunctionSpec(name="tasks:add")}
    return msgspec.structs.replace(Policy(worker="w1", apps=("tasks",), functions=known), **changes)


def job(**fields: object) -> Envelope:
    fields.setdefault("task", "tasks:add" if "argv" not in fields else None)
    return envelope.seal(envelope.new_job(queue="task_queue", **fields))  # type: ignore[arg-type]


def received(sealed: Envelope, **changes: object) -> Received:
    return dataclasses.replace(Received(body=sealed.body, message_id=sealed.job.id), **changes)  # type: ignore[arg-type]


def admit(sealed: Envelope, rules: Policy | None = None, **facts: object) -> Verdict | None:
    return admission.admit(sealed, received(sealed, **facts), rules or policy(), NOW)


def test_a_registered_function_runs() -> None:
    assert admit(job()) is None


@pytest.mark.parametrize(
    "task",
    ["os:system", "tasks:__import__", "tasks:add.__globals__", "t\u0430sks:add", "tasks.py:add", "tasks", "", "a:b:c"],
)
def test_what_the_worker_was_not_started_for_is_dead_at_once(task: str) -> None:
    verdict = admit(job(task=task))
    assert isinstance(verdict, Dead)
    assert verdict.error.reason == "not_allowed"


def test_a_command_runs_only_where_commands_are_allowed() -> None:
    assert isinstance(admit(job(argv=["ls"])), Dead)
    assert admit(job(argv=["ls"]), policy(allow_commands=True)) is None


@pytest.mark.parametrize(
    ("argv", "env", "message"),
    [
        (["echo", "; rm"], {}, None),
        (["/usr/bin/env"], {}, None),
        (["/bin/echo"], {}, "Worker w1 runs only these commands: echo, /usr/bin/env."),
        (["env"], {}, "Worker w1 runs only these commands: echo, /usr/bin/env."),
        (["./echo"], {}, "Worker w1 runs only these commands: echo, /usr/bin/env."),
        (["//usr/bin/env"], {}, "Worker w1 runs only these commands: echo, /usr/bin/env."),
        (["echo\n"], {}, "Worker w1 runs only these commands: echo, /usr/bin/env."),
        (["\u0435cho"], {}, "Worker w1 runs only these commands: echo, /usr/bin/env."),
        *[
            (["echo"], {name: "x"}, f"Worker w1 runs echo only without variables of the job's own: {name}.")
            for name in ("PATH", "LD_PRELOAD", "BASH_FUNC_ls%%", "COLOUR")
        ],
    ],
)
def test_a_list_of_programs_opens_those_and_no_other(argv: list[str], env: dict[str, str], message: str | None) -> None:
    verdict = admit(job(argv=argv, env=env), policy(allow_programs=("echo", "/usr/bin/env")))
    assert (verdict.error.message if isinstance(verdict, Dead) else verdict) == message


def test_an_allowed_prefix_is_a_module_or_a_parent_of_it() -> None:
    rules = policy(allow_import=("reports",))
    assert admit(job(task="reports:daily"), rules) is None
    assert admit(job(task="reports.sales:daily"), rules) is None
    assert isinstance(admit(job(task="reportsx:daily"), rules), Dead)
    assert admit(job(task="anything:at_all"), policy(allow_import=(ANY_MODULE,))) is None


def test_an_unknown_function_of_an_app_waits_for_a_worker_that_has_it() -> None:
    verdict = admit(job(task="tasks:later"))
    assert isinstance(verdict, Park)
    assert verdict.error.reason == "unknown_function"


@pytest.mark.parametrize("state", [{"attempt": 1}, {"crashes": 1}, {"parked_since_ms": int(NOW * 1000)}])
def test_a_retry_is_not_held_back_by_a_clock_that_is_an_hour_behind(state: dict[str, int]) -> None:
    retried = msgspec.structs.replace(job(), state=State(not_before_ms=int((NOW + 3600) * 1000), **state))
    assert admit(retried) is None


@pytest.mark.parametrize(
    ("first", "reason", "waits"),
    [
        ("jobrunner.v1.delay.05", "expired", False),
        ("jobrunner.v1.delay.27", "expired", True),  # the top of the ladder may not have been enough
        ("jobrunner.v1.waiting", "rejected", True),
        ("someone.elses", "expired", True),
    ],
)
def test_what_has_waited_in_the_ladder_is_due_whatever_this_clock_says(first: str, reason: str, *, waits: bool) -> None:
    delayed = msgspec.structs.replace(job(), state=State(not_before_ms=int((NOW + 3600) * 1000)))
    verdict = admit(delayed, headers={"x-first-death-queue": first, "x-first-death-reason": reason})
    assert isinstance(verdict, Redelay) is waits


def test_a_job_that_is_too_late_expires_and_one_too_early_goes_back_into_the_ladder() -> None:
    assert admit(job(expires_at=NOW - 1)) == Expired()
    early = msgspec.structs.replace(job(), state=State(not_before_ms=int((NOW + 5) * 1000)))
    verdict = admit(early)
    assert isinstance(verdict, Redelay)
    assert verdict.delay_s == pytest.approx(5)
    soon = msgspec.structs.replace(job(), state=State(not_before_ms=int((NOW + 0.05) * 1000)))
    assert admit(soon) is None


@pytest.mark.parametrize(("count", "poisoned"), [(1, False), (4, False), (5, True), (9, True)])
def test_a_quorum_queue_counts_the_workers_that_died(count: int, poisoned: bool) -> None:
    verdict = admit(job(), redelivered=True, delivery_count=count)
    assert isinstance(verdict, Dead) is poisoned


def test_a_forged_count_on_a_first_delivery_is_not_believed() -> None:
    assert admit(job(), redelivered=False, delivery_count=99) is None


def test_on_a_classic_queue_the_count_travels_with_the_job() -> None:
    verdict = admit(job(), redelivered=True)
    assert isinstance(verdict, RunAgain)
    assert (verdict.delay_s, verdict.counted) == (0.0, False)
    tired = msgspec.structs.replace(job(), state=State(crashes=4))
    assert isinstance(admit(tired, redelivered=True), Dead)


def for_queue(queue: str) -> bytes:
    return msgspec.json.encode({"v": 1, "id": "k7f2m9xq4tzd8w1r", "queue": queue, "iat": 1.0, "task": "tasks:add"})


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"body": b"Hello..."}, "malformed"),
        ({"body": b"x" * (8 * 1024 * 1024 + 1)}, "too_large"),
        ({"content_encoding": "gzip"}, "malformed"),
        ({"headers": {"jr-attempt": "many"}}, "malformed"),
        ({"message_id": "0000000000000000"}, "malformed"),
        ({"body": for_queue("jobrunner.v1.dead"), "message_id": "k7f2m9xq4tzd8w1r"}, "malformed"),
        ({"body": for_queue("\u00fc" * 100), "message_id": "k7f2m9xq4tzd8w1r"}, "malformed"),
    ],
)
def test_what_is_no_job_is_unreadable_and_named_by_its_hash(facts: dict[str, object], reason: str) -> None:
    message = received(job(), **facts)
    got = reading.read(message, policy())
    assert isinstance(got, Unreadable)
    assert got.error.reason == reason
    assert got.job_id == id_of(message.body)


def test_the_tutorials_message_is_input_for_a_raw_handler() -> None:
    got = reading.read(Received(body=b"Hello..."), policy(raw_handler="tasks:handle"))
    assert isinstance(got, Envelope)
    assert (got.job.task, got.job.raw, got.job.queue) == ("tasks:handle", b"Hello...", "task_queue")
    assert envelope.decode(got.body, got.job.id) == got.job
    assert admission.admit(got, Received(), policy(raw_handler="tasks:handle"), NOW) is None


def test_the_tutorials_message_is_the_stdin_of_a_raw_command() -> None:
    rules = policy(raw_handler_command=("wc", "-c"))
    got = reading.read(Received(body=b"Hello..."), rules)
    assert isinstance(got, Envelope)
    assert (got.job.argv, got.job.stdin) == (["wc", "-c"], b"Hello...")
    assert admission.admit(got, Received(), rules, NOW) is None
    assert isinstance(admission.admit(job(argv=["rm", "-r"]), Received(), rules, NOW), Dead)


@pytest.mark.parametrize("facts", [{"env": {"PATH": "/tmp/mine"}}, {"env": {"LD_PRELOAD": "x.so"}}, {"cwd": "/tmp"}])
def test_a_job_that_poses_as_the_raw_command_makes_no_other_program_of_it(facts: dict[str, object]) -> None:
    rules = policy(raw_handler_command=("wc", "-c"))
    assert admission.admit(job(argv=["wc", "-c"]), Received(), rules, NOW) is None
    verdict = admission.admit(job(argv=["wc", "-c"], **facts), Received(), rules, NOW)
    assert isinstance(verdict, Dead)
    assert verdict.error.reason == "not_allowed"


def test_two_equal_foreign_messages_are_two_jobs_unless_they_carry_an_id() -> None:
    rules = policy(raw_handler="tasks:handle")
    ids = {reading.read(Received(body=b"a"), rules).job.id for _ in range(2)}  # type: ignore[union-attr]
    assert len(ids) == 2
    same = {reading.read(Received(body=b"a", message_id="m1"), rules).job.id for _ in range(2)}  # type: ignore[union-attr]
    assert len(same) == 1


def test_a_job_of_a_later_version_waits_for_a_later_worker() -> None:
    body = msgspec.json.encode({"v": 3, "id": "k7f2m9xq4tzd8w1r", "queue": "q", "steps": [1]})
    message = Received(body=body, message_id="k7f2m9xq4tzd8w1r")
    got = reading.read(message, policy())
    assert isinstance(got, Envelope)
    assert got.body == body
    verdict = admission.admit(got, message, policy(), NOW)
    assert isinstance(verdict, Park)
    assert verdict.error.reason == "version"
