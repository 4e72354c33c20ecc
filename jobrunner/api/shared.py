"""The client that `function.delay(...)` uses: one for the whole process, connected on first use."""

from jobrunner.api.sync import Client

_client: dict[str, Client] = {}


def client() -> Client:
    """It. Of two threads that come first at once, both get the same: one that was not used yet holds nothing."""
    return _client.get("it") or _client.setdefault("it", Client())
