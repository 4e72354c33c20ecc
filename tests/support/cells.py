"""The failpoint matrix: which step of a job is broken, how, and what must hold afterwards. Data and rules."""

from dataclasses import dataclass

ENQUEUE = ("enqueue.before_publish", "enqueue.after_publish", "enqueue.after_confirm")
TAKE = ("consume.after_deliver", "dispatch.before_send", "dispatch.after_send")
CHILD = ("child.before_run", "child.after_run", "child.mid_frame")
SETTLE = ("settle.before_publish", "settle.after_publish", "settle.after_confirm", "settle.after_ack")
SHUTDOWN = ("shutdown.after_cancel", "shutdown.before_barrier")
POINTS = ENQUEUE + TAKE + CHILD + SETTLE + SHUTDOWN

FAULTS = ("kill-parent", "kill-child", "kill-broker", "cut", "stop")
"""stop: the process at the failpoint stands still for 70 s, longer than the broker waits for its heartbeat."""

OUTCOMES = ("success", "retry", "dead", "malformed", "cancel")

RUNS = {"success": 1, "retry": 2, "dead": 1, "malformed": 0, "cancel": 1}
"""How often each runs when nothing is broken."""

STATES = {"success": "succeeded", "retry": "succeeded", "dead": "dead", "malformed": "dead", "cancel": "cancelled"}
"""The one end that each may have."""


@dataclass(frozen=True)
class Cell:
    """One step, one fault, one outcome. With kill-parent at `enqueue.*` the command is killed."""

    point: str
    fault: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.point}-{self.fault}-{self.outcome}"

    @property
    def together(self) -> bool:
        """Whether its fault strikes many cells at once: there is one broker, and 70 s are long."""
        return self.fault in ("kill-broker", "stop")

    @property
    def action(self) -> str:
        """What the failpoint does by itself; `hold` waits for whoever breaks something meanwhile.

        A child is held, since its successor would kill itself as well.
        """
        own = {} if self.point in CHILD else {"kill-parent": "kill"}
        return ({"cut": "cut", "stop": "stop"} | own).get(self.fault, "hold")

    @property
    def armed(self) -> str:
        """The value of `JOBRUNNER_FAILPOINT`."""
        return f"{self.point}:{self.action}"


def skipped(cell: Cell) -> str | None:  # noqa: C901 - one line for each reason
    """Why a cell cannot be; None: it applies."""
    point, fault, outcome = cell.point, cell.fault, cell.outcome
    if point in ENQUEUE:
        if outcome != "success":
            return "what becomes of the job is not known yet when it is enqueued"
        if fault == "kill-child":
            return "who enqueues has no child"
    if point in CHILD:
        if outcome == "malformed":
            return "what is no job reaches no child"
        if fault == "cut":
            return "a child has no connection; its parent's is cut at dispatch.after_send"
        if outcome == "cancel" and point != "child.before_run":
            return "the child of a cancelled job is killed before it gets there"
    if outcome == "malformed" and point.startswith("dispatch."):
        return "what is no job is dispatched to nobody"
    if outcome == "cancel" and (point in TAKE or point == "child.before_run"):
        return "nobody has cancelled it yet"
    if point in SHUTDOWN and outcome != "success":
        return "a stop is the same whatever becomes of the job"
    if point == "shutdown.before_barrier" and fault == "kill-child":
        return "no job runs then"
    return None


def all_cells() -> list[Cell]:
    """Every cell, those that are skipped too."""
    return [Cell(point, fault, outcome) for point in POINTS for fault in FAULTS for outcome in OUTCOMES]


def cells(*, faults: tuple[str, ...] = FAULTS) -> list[Cell]:
    """The cells that apply."""
    return [cell for cell in all_cells() if cell.fault in faults and skipped(cell) is None]


def most_runs(cell: Cell) -> int:
    """How often the job may start, by the table of `docs/reliability.md`: what is not listed here costs no run."""
    runs = RUNS[cell.outcome]
    if cell.outcome == "malformed":
        return 0
    match cell.fault:
        case "kill-parent" if cell.point in ("dispatch.after_send", "child.after_run", "child.mid_frame", *SETTLE):
            return runs + 1
        case "kill-parent" if cell.point in SHUTDOWN:
            return runs + 1
        case "kill-broker" | "cut" | "stop" if cell.point == "shutdown.after_cancel":
            return runs + 1  # its message goes back when nobody is left who knows of its end
        case "kill-child" if cell.point in ("dispatch.after_send", "child.after_run", "child.mid_frame", *SHUTDOWN):
            return runs + 1
        case _:
            return runs


def least_runs(cell: Cell) -> int:
    """How often the job must start. Cancelled ones may be stopped before their second start."""
    return RUNS[cell.outcome]


FEW = tuple(
    Cell(*words.split("/"))
    for words in (
        "enqueue.before_publish/kill-parent/success",
        "enqueue.after_publish/kill-parent/success",
        "enqueue.after_publish/kill-broker/success",
        "enqueue.after_publish/cut/success",
        "consume.after_deliver/kill-parent/success",
        "consume.after_deliver/kill-broker/malformed",
        "dispatch.before_send/cut/success",
        "dispatch.after_send/kill-child/success",
        "dispatch.after_send/kill-broker/retry",
        "child.before_run/kill-parent/success",
        "child.after_run/kill-child/success",
        "child.mid_frame/kill-child/retry",
        "settle.before_publish/kill-parent/success",
        "settle.before_publish/kill-broker/success",
        "settle.before_publish/cut/cancel",
        "settle.after_publish/kill-parent/success",
        "settle.after_publish/kill-parent/dead",
        "settle.after_publish/kill-parent/malformed",
        "settle.after_publish/kill-broker/retry",
        "settle.after_publish/kill-broker/dead",
        "settle.after_publish/cut/retry",
        "settle.after_confirm/kill-parent/success",
        "settle.after_confirm/kill-parent/retry",
        "settle.after_confirm/kill-parent/cancel",
        "settle.after_confirm/kill-broker/success",
        "settle.after_confirm/cut/dead",
        "settle.after_ack/kill-parent/success",
        "settle.after_ack/kill-broker/malformed",
        "shutdown.after_cancel/kill-parent/success",
        "shutdown.before_barrier/kill-broker/success",
    )
)
"""The cells that tell most, for each change."""
