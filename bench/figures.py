"""Everything that is measured. Rates in jobs a second, times in seconds, memory in bytes."""

from dataclasses import dataclass, field

import measure

BARE = "bare loop"


@dataclass(frozen=True)
class Sizes:
    """How much is measured: `make bench`, or less for a quick look."""

    rounds: int = 5
    nothing: int = 3000
    bulk: int = 15_000
    small: int = 1000
    large: int = 100
    spin: int = 200
    one: int = 200
    stamps: int = 60
    leaks: int = 80
    singles: int = 9
    results: int = 200
    long: int = 200_000
    mapped: int = 1_000_000

    @property
    def drained(self) -> dict[str, int]:
        """Kind of job -> how many a round drains."""
        return {"nothing": self.nothing, "small": self.small, "large": self.large, "spin": self.spin}


QUICK = Sizes(
    rounds=1, nothing=1000, bulk=2000, small=200, large=20, spin=40, one=50, stamps=20, long=4000, mapped=50_000
)
TINY = Sizes(1, 1000, 60, 20, 4, 6, 5, 3, 4, 2, 5, 200, 2000)
"""For the test that all of it runs: of fewer jobs all are done before the CPU of some can be told."""


@dataclass
class Runner:
    """One runner: a list has an entry for each round."""

    versions: str = ""
    lacks: str = ""
    drain: dict[str, list[float]] = field(default_factory=dict)
    one: list[float] = field(default_factory=list)
    bulk: list[float] = field(default_factory=list)
    cpu_s: list[tuple[float, float]] = field(default_factory=list)
    """Of a job that does nothing: the worker's processes, the broker."""
    idle: measure.Memory | None = None
    busy: measure.Memory | None = None
    to_start: list[float] = field(default_factory=list)
    leaked: int = 0
    """Largest process while jobs leaked."""


@dataclass
class Ours:
    """What only jobrunner is asked for."""

    help_cpu: list[float] = field(default_factory=list)
    enqueue_cpu: list[float] = field(default_factory=list)
    wait_wall: list[float] = field(default_factory=list)
    to_result: list[float] = field(default_factory=list)
    map_rate: float = 0.0
    map_memory: int = 0
    long: list[tuple[int, measure.Memory]] = field(default_factory=list)
    """Jobs so far, and the worker's memory then."""


@dataclass
class Figures:
    """All of it. load: of the machine, before and after."""

    sizes: Sizes
    machine: str = ""
    load: tuple[float, float] = (0.0, 0.0)
    runners: dict[str, Runner] = field(default_factory=dict)
    ours: Ours = field(default_factory=Ours)
