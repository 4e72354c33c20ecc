"""What a line of `enqueue --from` may wait for: jobs of lines before it, those that the ledger knows, and runs."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from jobrunner.cli.after import names_in, wish
from jobrunner.cli.shared import Shared
from jobrunner.envelope import After, Envelope
from jobrunner.errors import JobrunnerError, NotFound

if TYPE_CHECKING:
    from types import TracebackType

    from jobrunner.view.store import Store


class Earlier:
    """Jobs by their names. A line can name an earlier one only if that has an `id` of its own: those are remembered.

    shared: to find the ledger; None: there is none, as in tests of lines.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared
        self._stack = ExitStack()
        self._store: Store | None = None
        self._made: dict[str, float] = {}  # id -> when it was made, in seconds since the epoch
        self._under_way: set[str] = set()
        self._missing: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: "type[BaseException] | None", exc: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self._stack.close()

    async def catch_up(self, lines: Sequence[bytes]) -> None:
        """Read the ledger if one of these lines may wait for something. Raises: the broker's errors."""
        if self._shared is None or not any(b'"after"' in line for line in lines):
            return
        from jobrunner.cli.viewing import catch_up, opened

        if self._store is None:
            self._store = self._stack.enter_context(opened(self._shared))
        await catch_up(self._shared, self._store)

    def find(self, words: str | Sequence[str], when: str) -> After:
        """What these words name. Raises: NotFound, AmbiguousId, BadValue."""
        return wish(self._store, names_in([words] if isinstance(words, str) else words), when, self._made)

    def made(self, envelope: Envelope) -> None:
        """A line with an id of its own is a job, on its way to the broker."""
        self._made[envelope.job.id] = envelope.job.iat
        self._under_way.add(envelope.job.id)

    def answered(self, envelope: Envelope, error: JobrunnerError | None) -> None:
        """The broker's answer to a job of a line."""
        if envelope.job.id in self._under_way:
            self._under_way.discard(envelope.job.id)
            if error is not None:
                self._missing.add(envelope.job.id)

    def is_ready(self, envelope: Envelope) -> bool:
        """Whether all that it waits for was answered."""
        return self._under_way.isdisjoint(_jobs_of(envelope))

    def check(self, envelope: Envelope) -> None:
        """Raises: NotFound for a job that waits for one that is not in the broker, so it would wait for ever."""
        for job_id in _jobs_of(envelope):
            if job_id in self._missing:
                raise NotFound(message=f"It waits for {job_id}, which was not queued.", hint="jobrunner list")


def _jobs_of(envelope: Envelope) -> Iterable[str]:
    return envelope.job.after.jobs if envelope.job.after is not None else ()
