"""Who answers a ping, who does not, and what that means for the exit code."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobrunner.broker import topology
from jobrunner.broker.control import Reply
from jobrunner.cli import out, phrases
from jobrunner.cli.asking import connected, ping, ping_some, worker_key
from jobrunner.cli.shared import Shared
from jobrunner.durations import format_duration
from jobrunner.errors import NotFound, WorkersSilent

if TYPE_CHECKING:
    from jobrunner.view.rows import WorkerRow


class Ping:
    """One round of questions."""

    def __init__(self, shared: Shared, timeout_s: float) -> None:
        self._shared = shared
        self._timeout_s = timeout_s

    async def this_host(self) -> int:
        """The workers of this host. Raises: NotFound when none answers."""
        import socket

        host = socket.gethostname()
        async with connected(self._shared.settings, "ping") as connection:
            replies = await ping_some(connection, [f"host.{topology.encode_word(host)}"], timeout_s=self._timeout_s)
        if not replies:
            after = format_duration(self._timeout_s)
            raise NotFound(message=f"No worker on {host} answered in {after}.", hint="jobrunner worker")
        self._show(replies, [])
        return 0

    async def named(self, names: Sequence[str]) -> int:
        """These workers, or all that should be there. Raises: NotFound for a name nobody has; WorkersSilent."""
        from jobrunner.cli.viewing import catch_up, opened

        now = time.time()
        with opened(self._shared) as store:
            await catch_up(self._shared, store)
            known = {row.name: row for row in store.workers()}
        wanted = list(dict.fromkeys(names)) or [name for name, row in known.items() if not row.gone(now)]
        async with connected(self._shared.settings, "ping") as connection:
            if names:
                replies = await ping_some(connection, map(worker_key, wanted), timeout_s=self._timeout_s)
            else:
                replies = await ping(connection, timeout_s=self._timeout_s, expected=len(wanted) or None)
        answered = {reply.worker for reply in replies}
        silent = [name for name in wanted if name not in answered]
        self._show(replies, silent)
        if strangers := [name for name in silent if name not in known]:
            self._refuse(strangers, list(known))
        if silent:
            raise WorkersSilent(
                answered=len(answered),
                expected=len(answered | set(wanted)),
                timeout=format_duration(self._timeout_s),
                names=", ".join(_seen(known[name], now) for name in silent),
            )
        if not replies:
            self._shared.talk("No worker is there to answer.  Start one:  jobrunner worker")
        return 0

    def _refuse(self, names: Sequence[str], known: list[str]) -> None:
        from jobrunner.cli.table import nearest

        few = f"Workers: {', '.join(known)}" if 0 < len(known) <= 8 else "jobrunner workers list"
        shown = ", ".join(f"'{name}'" for name in names)
        raise NotFound(message=f"There is no worker {shown}.{nearest(names[0], known)}", hint=few)

    def _show(self, replies: Sequence[Reply], silent: Sequence[str]) -> None:
        if self._shared.json:
            documents = [
                {"name": each.worker, "host": each.host, "version": each.version, "slots": each.slots}
                | {"busy": each.busy, "queues": each.queues, "seen_at": out.iso(time.time()), "state": "online"}
                for each in replies
            ]
            out.emit_json({"workers": documents, "silent": list(silent)})
            return
        is_terminal = sys.stdout.isatty()
        for each in replies:
            if is_terminal:
                slots = f"{each.busy} of {each.slots} slots busy"
                out.emit(f"{self._shared.mark('✓')} {out.printable(each.worker)}  {slots}")
            else:
                out.emit("\t".join((out.cell(each.worker), str(each.slots), str(each.busy), "answered")))
        for name in silent:
            if is_terminal:
                out.emit(f"{self._shared.mark('✗')} {out.printable(name)}  no answer")
            else:
                out.emit("\t".join((out.cell(name), "", "", "silent")))


def _seen(row: "WorkerRow", now: float) -> str:
    """`web3-91c0 (seen 40s ago)`."""
    return f"{row.name} (seen {phrases.age(now - row.seen_at)} ago)"
