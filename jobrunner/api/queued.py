"""What both faces of a handle have in common: which job it is, and what is known here of its end."""

from jobrunner.api.ends import SHORT, Ticket, failure_of


class Queued:
    """A job that was queued. ticket: what the client waits with."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.id = ticket.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id[:SHORT]}{' ' + self.ticket.end.state if self.ticket.end else ''}>"

    def check(self) -> None:
        """Raises, of a job that has ended without a result, what `result` raises. Waits for nothing."""
        error = failure_of(self.ticket.end) if self.ticket.end else None
        if error is not None:
            raise error

    @property
    def done(self) -> bool:
        """Whether its end is known here. Costs nothing; false for long only where nobody waits for it."""
        return self.ticket.end is not None
