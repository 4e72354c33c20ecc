"""What a worker was started to run."""

import msgspec

from jobrunner.keyring import KeyRing
from jobrunner.registry import FunctionSpec

ANY_MODULE = "*"
"""In `allow_import`: every module. Set for a broker of one's own; never taken from the command line."""


class Policy(msgspec.Struct, kw_only=True):
    """What this worker runs. functions: name -> spec, as the children reported them. imported: of functions that were
    imported on demand; what may run does not follow from it.

    ring, vhost: with keys, only jobs that were signed for this virtual host and the queue they came from.
    """

    worker: str
    apps: tuple[str, ...] = ()
    functions: dict[str, FunctionSpec] = {}
    imported: dict[str, FunctionSpec] = {}
    allow_import: tuple[str, ...] = ()
    allow_commands: bool = False
    allow_programs: tuple[str, ...] = ()
    raw_handler: str | None = None
    raw_handler_command: tuple[str, ...] | None = None
    ring: KeyRing | None = None
    vhost: str = ""

    def wishes(self, task: str | None) -> FunctionSpec | None:
        """What a function wants for its runs, as far as that is known."""
        return self.functions.get(task or "") or self.imported.get(task or "")
