"""When a map ends before its inputs do."""

import re
from typing import Final

import msgspec

from jobrunner.errors import BadValue

LEAST_ENDED: Final = 10
"""A share is judged once so many have ended."""

_FORM: Final = re.compile(r"(?:(never)|(soon|now),(fail|success|done)=(\d{1,9})(%?))")


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """is_now: what goes on is cancelled; else only nothing is added. what: fail, success or done.

    count: of these, or the share of all that have ended, in percent.
    """

    is_now: bool
    what: str
    count: int
    is_share: bool = False

    def is_due(self, *, succeeded: int, failed: int) -> bool:
        """Whether it is time. failed: dead, cancelled and expired."""
        ended = succeeded + failed
        found = {"fail": failed, "success": succeeded, "done": ended}[self.what]
        if not self.is_share:
            return found >= self.count
        return ended >= LEAST_ENDED and found * 100 >= self.count * ended


def parse_halt(text: str) -> Halt | None:
    """`soon,fail=5%`, `now,fail=1`, `now,success=1`, `never`. Raises: BadValue."""
    match = _FORM.fullmatch(text)
    is_share = match is not None and match[5] == "%"
    if match is None or (not match[1] and (int(match[4]) < 1 or (is_share and int(match[4]) > 100))):
        raise BadValue(problem=f"'{text}' does not say when to halt.", hint="soon,fail=5% · now,fail=1 · now,success=1")
    if match[1]:
        return None
    if is_share and match[3] == "done":
        raise BadValue(problem="A share of what is done has no total.", hint="soon,done=100")
    return Halt(is_now=match[2] == "now", what=match[3], count=int(match[4]), is_share=is_share)
