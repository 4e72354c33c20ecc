"""How a job is made of an input, or of a batch of them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import msgspec

from jobrunner import envelope as envelopes
from jobrunner.calls import Call as Shown
from jobrunner.calls import show_command
from jobrunner.envelope import Envelope
from jobrunner.ids import id_of
from jobrunner.mapping.inputs import BadInput, Input
from jobrunner.mapping.items import Item
from jobrunner.mapping.template import Call, Command, show
from jobrunner.wishes import Mold, Wishes

MAX_VARIABLE_BYTES: Final = 4096
"""Of an input that is given to its job as a variable."""

IN_BATCHES: Final = "  (in batches)"
"""Behind what is shown of a run whose jobs hold several inputs."""

CRASHED_BACKOFF_S: Final = (0.1, 1.0)
"""Before a batch whose process died runs again; if it dies thrice, each of its calls is tried alone."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is run, and how.

    task with call, or command. queue: the function's own, if it names one. batch: inputs in one job.
    """

    run: str
    wishes: Wishes
    user: str
    task: str | None = None
    call: Call | None = None
    command: Command | None = None
    queue: str | None = None
    batch: int = 1

    @cached_property
    def shown(self) -> str:
        """What the run is made with: for people, and the same for the same."""
        words = self.command.words if self.command else [self.task or "", *(self.call.words if self.call else ())]
        return show(words) + (IN_BATCHES if self.batch > 1 else "")

    def shown_for(self, given: Input, seq: int) -> str:
        """What runs for one input, for people. Raises: BadInput."""
        if self.command is not None:
            return show_command(self.command.argv(given, seq))
        if self.call is None:
            return ""
        args, kwargs = self.call.arguments(given, seq)
        return str(Shown(self.task or "", msgspec.json.decode(args), msgspec.json.decode(kwargs)))

    def item_id(self, text: str, nth: int) -> str:
        """The id of the nth of equal inputs."""
        return id_of(self.run.encode(), text.encode(), str(nth).encode())

    def alone(self, item: Item) -> Envelope:
        """The job of one input. Raises: BadInput, and what `Mold.envelope` raises."""
        given = item.given
        if given.problem is not None:
            raise BadInput(reason=given.problem)
        is_small = len(given.text) <= MAX_VARIABLE_BYTES and "\0" not in given.text
        fields: dict[str, Any] = {"template": self.shown, "input": given.text if is_small else None}
        fields |= self._what(item)
        made = self._mold.envelope(fields, self.queue, job_id=item.id, seq=item.seq)
        if item.copy or item.chain:
            state = msgspec.structs.replace(made.state, chain=item.chain, copy=item.copy)
            made = msgspec.structs.replace(made, state=state)
        envelopes.check_size(made)
        return made

    def together(self, items: Sequence[Item], calls: Sequence[bytes], *, is_again: bool) -> Envelope:
        """One job for several inputs. calls: what `part` gave for each. is_again: some were in a batch before."""
        ids = [item.id for item in items]
        salt = secrets.token_bytes(8) if is_again else b""
        job_id = id_of(self.run.encode(), salt, "".join(ids).encode())
        fields = {
            "task": self.task,
            "batch": msgspec.Raw(b"[" + b",".join(calls) + b"]"),
            "items": ids,
            "template": self.shown,
        }
        made = self._batch_mold.envelope(fields, self.queue, job_id=job_id, seq=items[0].seq)
        envelopes.check_size(made)
        return made

    def part(self, item: Item) -> bytes:
        """The call of one input as a part of a batch. Raises: BadInput."""
        if item.given.problem is not None:
            raise BadInput(reason=item.given.problem)
        if self.call is None:
            raise BadInput(reason="a command has no place in a batch")
        args, kwargs = self.call.arguments(item.given, item.seq)
        return b"[" + args + b"," + kwargs + b"]"

    def _what(self, item: Item) -> dict[str, Any]:
        if self.command is not None:
            return {"argv": self.command.argv(item.given, item.seq)}
        if self.call is None:
            raise BadInput(reason="there is nothing to run")
        args, kwargs = self.call.arguments(item.given, item.seq)
        return {"task": self.task, "args": msgspec.Raw(args), "kwargs": msgspec.Raw(kwargs)}

    @cached_property
    def _mold(self) -> Mold:
        return Mold(replace(self.wishes, run=self.run), self.user)

    @cached_property
    def _batch_mold(self) -> Mold:
        # a call that fails is tried again alone, as often as it was wished; the batch itself is not
        return Mold(replace(self.wishes, run=self.run, retries=0, backoff=CRASHED_BACKOFF_S), self.user)
