"""The client that `function.delay(...)` uses: one for the whole process, connected on first use."""

from jobrunner.api import backend
from jobrunner.api.sync import Client

_clients: dict[bool, Client] = {}


def client() -> Client:
    """It. While jobs run inline, another one, so that a test leaves nothing behind."""
    found = _clients.get(backend.is_inline())
    # setdefault: of two threads that come at once, both get the same; a client that was not used holds nothing
    return found or _clients.setdefault(backend.is_inline(), Client())
