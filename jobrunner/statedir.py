"""The state folder of this user: the private broker's address, reports of bugs."""

import json
import os
from pathlib import Path
from typing import Final

BROKER_FILE: Final = "broker.json"
"""Written by the private broker (mode 0600): `{"url": "amqp://...", "pid": 4121}`."""


def state_dir() -> Path:
    """`JOBRUNNER_STATE_DIR`, else the platform's own, such as `~/.local/state/jobrunner`. It may not exist yet."""
    if told := os.environ.get("JOBRUNNER_STATE_DIR"):
        return Path(told)
    from platformdirs import user_state_path

    return user_state_path("jobrunner")


def local_broker_url() -> str | None:
    """The URL of this user's running private broker; None if there is none, or if its process has ended."""
    try:
        facts = json.loads((state_dir() / BROKER_FILE).read_bytes())
        url, pid = facts["url"], facts["pid"]
        os.kill(int(pid), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(url)
