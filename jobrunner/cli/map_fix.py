"""What `map` sets right: jobs that a halt ends, and dead letters of jobs that it queued once more."""

import contextlib
from collections.abc import Mapping

from jobrunner.cli import viewing
from jobrunner.cli.shared import Shared
from jobrunner.client import Client
from jobrunner.errors import JobrunnerError

PROOF_S = 10.0
"""So long it is waited until each job is known to be gone."""


async def cancel(shared: Shared, client: Client, jobs: Mapping[str, int]) -> None:
    """End these jobs, wherever they are. Their ends are in the ledger afterwards. Raises: the broker's errors."""
    from jobrunner.fixing.cancelling import Canceller

    with viewing.opened(shared) as store:
        await viewing.catch_up(shared, store)
        rows = [row for job_id in jobs if (row := store.job(job_id)) is not None]
        await Canceller(store, client, reason="halted", wait_s=PROOF_S).run(rows)


async def discard_letters(client: Client, chains: Mapping[str, int]) -> None:
    """Take out the dead letters of jobs that were queued once more: id -> their new chain.

    Where another command has the letters they stay; the next `retry` drops them.
    """
    from jobrunner.fixing.letters import Letters

    with contextlib.suppress(JobrunnerError):
        async with Letters(client.connection, wanted=len(chains), timeout_s=client.timeout_s) as letters:
            found = letters.batches(lambda letter: letter.state.chain < chains.get(letter.id, 0))
            async with contextlib.aclosing(found) as batches:
                async for batch in batches:
                    for letter in batch:
                        letters.ack(letter)
