"""What the management API tells, as findings; and what is not known where it does not answer."""

from typing import Any, Final

from jobrunner.broker import topology
from jobrunner.broker.topology import P
from jobrunner.doctor.check import Check, error, ok, unknown, warning
from jobrunner.doctor.management import Api, Refused
from jobrunner.durations import format_duration

DEFAULT_TIMEOUT_MS: Final = 30 * 60 * 1000
NO_API: Final = "no management API"
_POLICY: Final = "effective_policy_definition"
"""Missing in the row of a queue of which the API has no figures yet."""

_LOSES: Final = ("max-length", "max-length-bytes", "message-ttl", "expires")
_LITTLE_BYTES: Final = 100_000_000
_CLOCK_S: Final = 2.0


class Told:
    """Facts of the API. why_not: why there are none."""

    def __init__(self, api: Api, *, is_private: bool) -> None:
        self.why_not: str | None = None
        self._api = api
        self._is_private = is_private
        self._nodes: list[dict[str, Any]] = []
        self._queues: list[dict[str, Any]] = []
        self._jobs_queues: set[str] = set()

    async def ask(self) -> Check:
        """Ask once for everything."""
        api = self._api
        if self._is_private:
            self.why_not = "the private broker has no management API"
            return ok("management", f"{self.why_not}, and needs none")
        try:
            await api.get("whoami")
            self._nodes = _rows(await api.get("nodes"))
            columns = f"columns=name,type,arguments,policy,{_POLICY}"
            self._queues = _rows(await api.get(f"queues/{{vhost}}?{columns}"))
            bound = _rows(await api.get(f"exchanges/{{vhost}}/{topology.JOBS}/bindings/source"))
            named = {str(row.get("destination")) for row in bound if row.get("destination_type") == "queue"}
            self._jobs_queues = {name for name in named if not name.startswith("amq.")}  # those are waiters', and ours
        except Refused as exc:
            if exc.status == 404:  # no jobs exchange yet
                return ok("management", f"{api.address} answers")
            self.why_not = f"the management API at {api.address} refuses '{api.user}'"
            fix = "--management http://jr_monitor:…@host:15672 · JOBRUNNER_DOCTOR_MANAGEMENT"
            return unknown("management", f"{self.why_not} (HTTP {exc.status})", fix)
        except (OSError, TimeoutError, ValueError):
            self.why_not = f"{NO_API} at {api.address}"
            return unknown("management", self.why_not, "rabbitmq-plugins enable rabbitmq_management")
        return ok("management", f"{api.address} answers")

    def timeouts(self) -> Check:
        """How long a job may run before the broker gives it to somebody else."""
        if self._is_private:
            return ok("timeouts", "jobs may run 24h before the broker takes them back (private broker)")
        known = [_timeout_ms(row) for row in self._queues if row.get("name") in self._jobs_queues]
        if not known or None in known:
            why = self.why_not or "no policy sets consumer-timeout"
            text = f"{why}: consumer_timeout unknown; jobs over 30 min may be taken back"
            fix = "rabbitmqctl set_policy jobs '^task_queue$' '{\"consumer-timeout\": 86400000}' --apply-to queues"
            return unknown("timeouts", text, f"{fix}  (from 3.12)")
        shortest_ms = min(value for value in known if value is not None)
        text = f"jobs may run {format_duration(shortest_ms / 1000)} before the broker takes them back"
        return ok("timeouts", text) if shortest_ms >= DEFAULT_TIMEOUT_MS else warning("timeouts", text)

    def policies(self) -> Check:
        """Policies under which messages vanish: ours may have no limit and no end, jobs may not be dropped."""
        if self.why_not is not None:
            if self._is_private:
                return ok("policies", "those that the private broker was made with")
            return unknown("policies", f"{self.why_not}: not known whether a policy drops messages")
        bad = [text for row in self._queues if (text := self._bad_policy(row))]
        if bad:
            return error("policies", "; ".join(bad[:3]), f"rabbitmqctl list_policies -p {self._api.vhost}")
        if any(_POLICY not in row for row in self._queues if row.get("name") in self._jobs_queues):
            return unknown("policies", "the management API does not know yet: a queue was created just now")
        bare = [str(row["name"]) for row in self._queues if self._is_bare(row)]
        if bare:
            text = f"no policy dead-letters what RabbitMQ itself drops from {', '.join(sorted(bare)[:3])}"
            fix = "jobrunner queues declare --print > d.json && rabbitmqctl import_definitions d.json"
            return warning("policies", text, fix)
        return ok("policies", "none drops messages")

    def _bad_policy(self, row: dict[str, Any]) -> str | None:
        name, found = str(row.get("name")), dict(row.get(_POLICY) or {})
        is_ours = name.startswith(f"{P}.")
        if row.get("type") == "stream" or not (is_ours or name in self._jobs_queues):
            return None
        bad = [key for key in _LOSES if key in found]
        if is_ours and "overflow" in found:
            bad.append("overflow")
        if not is_ours and found.get("overflow") in ("reject-publish", "reject-publish-dlx"):
            bad = [key for key in bad if not key.startswith("max-")]
        if not bad:
            return None
        return f"policy '{row.get('policy')}' sets {', '.join(bad)} on {name}: messages vanish"

    def _is_bare(self, row: dict[str, Any]) -> bool:
        """Whether a queue of jobs has no dead-letter exchange for what reaches the broker's own limit."""
        found = {**(row.get("arguments") or {}), **(row.get(_POLICY) or {})}
        has = "dead-letter-exchange" in found or "x-dead-letter-exchange" in found
        return row.get("name") in self._jobs_queues and not has

    def disk(self) -> list[Check]:
        """Room on the broker's machines."""
        found = []
        for node in self._nodes:
            free, limit = node.get("disk_free"), node.get("disk_free_limit")
            if not isinstance(free, int) or not isinstance(limit, int):
                continue
            text = f"{node.get('name')} has {free / 1e9:.1f} GB free and stops taking jobs at {limit / 1e9:.2f} GB"
            if node.get("disk_free_alarm") or node.get("mem_alarm"):
                which = "disk" if node.get("disk_free_alarm") else "memory"
                found.append(error("disk", f"{node.get('name')} has a {which} alarm", "rabbitmq-diagnostics alarms"))
            elif free < 2 * limit:
                found.append(warning("disk", text, "more room"))
            elif limit < _LITTLE_BYTES:
                found.append(warning("disk", text, "disk_free_limit.absolute = 2GB"))
            else:
                found.append(ok("disk", text))
        return found

    def clock(self) -> Check | None:
        """Ours against the broker's; None where it is not known."""
        offset_s = self._api.offset_s
        if offset_s is None:
            return None
        if abs(offset_s) > _CLOCK_S:
            return clock_off("the broker's", offset_s)
        return ok("clock", "agrees with the broker's")


def clock_off(whose: str, offset_s: float) -> Check:
    """offset_s: how far that clock is ahead of this machine's."""
    way = "ahead of" if offset_s > 0 else "behind"
    text = f"{whose} clock is {abs(offset_s):.1f} s {way} this machine's; delays are off by that much"
    return warning("clock", text, "timedatectl set-ntp true")


def _timeout_ms(row: dict[str, Any]) -> int | None:
    found = (row.get(_POLICY) or {}).get("consumer-timeout")
    return found if isinstance(found, int) else None


def _rows(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list):
        raise ValueError("not a list")  # noqa: TRY004 - as for any other answer that is none of this API
    return [row for row in found if isinstance(row, dict)]
