"""Who descends from a child, also in sessions of their own: a group's signals do not reach those."""

from pathlib import Path


def living_descendants(pid: int) -> list[int]:
    """Children, their children and so on, zombies left out; none where the system does not tell.

    Those whose parent has died are here too: a child of ours takes in its orphans. Source: proc(5), children.
    """
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            waiting.append(child)
            if _lives(child):
                found.append(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(task / "children").split()]


def _lives(pid: int) -> bool:
    state = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(state) and state[0] not in "ZX"


def _read(path: Path) -> str:
    """Empty for a process that has just ended."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
