"""Files of keys."""

from pathlib import Path


def write_key(path: Path, *lines: str) -> Path:
    """A file of these lines that only its owner may read, as jobrunner demands; one that is there is written anew."""
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return path
