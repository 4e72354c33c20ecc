"""What a synchronous program holds of a job that it has queued."""

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from jobrunner.api.ends import Ticket, value_of
from jobrunner.api.link import Link
from jobrunner.api.options import Duration, When, after, seconds_of
from jobrunner.api.queued import Queued
from jobrunner.api.waiting import ended

if TYPE_CHECKING:
    from jobrunner.api.call import Call
    from jobrunner.view.rows import JobRow

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class JobHandle(Queued, Generic[T_co]):
    """A job that was queued. Safe from several threads.

    id: 16 characters, the same everywhere. ticket: what the client waits with.
    """

    def __init__(self, link: Link, ticket: Ticket) -> None:
        super().__init__(ticket)
        self._link = link

    def result(self, timeout: Duration | None = None) -> T_co:
        """What the function returned, as JSON keeps it; of a command its stdout as text. Waits for it.

        timeout: seconds, or text such as `"5m"`; None waits for ever. Raises: WaitTimeout (a TimeoutError; the job goes
        on), JobFailed, JobExpired, JobCancelled, ResultCut.
        """
        end = self.ticket.end or self._link.run(lambda core: ended(core, self.ticket, seconds_of("timeout", timeout)))
        value: T_co = value_of(end)
        return value

    @property
    def state(self) -> str:
        """scheduled, queued, running, retrying, succeeded, dead, cancelled or expired. Asks the ledger until it has
        ended: some hundredths of a second.
        """
        return self.ticket.end.state if self.ticket.end else self.status().state

    def status(self) -> "JobRow":
        """All that the ledger tells of it. Raises: NotFound; the broker's errors."""
        return self._link.run(lambda core: core.status(self.id))

    def then(self, call: "Call[T]", *, when: When = "success") -> "JobHandle[T]":
        """Queue a call that runs once this job has succeeded; it is cancelled if that ends otherwise.

        when: or `failure`, if this one does not succeed; or `end`, whatever comes of it. It waits in the broker: this
        program need not be there any more. Made by `call(...)` or `function.call(...)`; with delay or at it is refused.
        Raises: as `enqueue`.
        """
        options = after([self.ticket], when)
        return JobHandle(self._link, self._link.run(lambda core: core.enqueue(call, options)))

    def cancel(self, reason: str = "") -> None:
        """It will not start; where it runs, it is stopped. Nothing happens to one that has ended.

        Returns once that is proven, or after two seconds: the wish is stored then, and holds for every worker that
        starts. `result()` raises JobCancelled when it has come true.
        """
        if self.ticket.end is None:
            self._link.run(lambda core: core.cancel(self.id, reason))


class Waited(NamedTuple, Generic[T]):
    """done: those that have ended. waiting: the others. Both in the order given."""

    done: list[JobHandle[T]]
    waiting: list[JobHandle[T]]
