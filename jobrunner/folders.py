"""Where jobrunner keeps what outlives a command. Imports nothing: completion asks it on every TAB."""

import os
from pathlib import Path


def state_dir() -> Path:
    """The state folder: `JOBRUNNER_STATE_DIR`, else the platform's folder for state."""
    if chosen := os.environ.get("JOBRUNNER_STATE_DIR"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_state_path

    return user_state_path("jobrunner", appauthor=False)
