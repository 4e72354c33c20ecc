"""Who has a job that is delivered again: asked of the other workers before it runs here.

A lost connection, a restarted broker or its ack timeout give a message to a second worker while the first still runs
the job. So who gets a redelivered message asks those who listen to its queue. A worker that has the run, or has ended
it, says so. Nobody: it runs, once every worker that could have it has said no or been silent for `lost_after_s`.

Which workers there are: each says `hello` when it connects, and everyone who hears it answers. One that was cut off
before this worker came cannot be known; but it comes back within `lost_after_s`, or counts as dead. So no job is taken
for lost before this worker itself has listened for so long.
"""

import time

import msgspec

from jobrunner.broker import topology
from jobrunner.broker.consumer import Delivery
from jobrunner.broker.control import AMONG_WORKERS, Reply, Request, reply_message, request_message
from jobrunner.ids import new_id
from jobrunner.outcome import Defer, HandBack
from jobrunner.worker import journal
from jobrunner.worker.company import Company
from jobrunner.worker.delivered import Run
from jobrunner.worker.presence import Presence
from jobrunner.worker.question import Finding, OnDecided, Question, Returns
from jobrunner.worker.settings import WorkerSettings
from jobrunner.worker.settling import Settler

HELLO_AGAIN_S = 1.0
"""Between two tries while our own words do not come back to us: the way is not open yet."""

DEAF = 4
"""Times `lost_after_s` after which a job runs though our own questions never came back: nobody can be asked here."""

ASLEEP_S = 2.0
"""So long without a tick: this process did not run, and what others said meanwhile is not read yet."""

LONGEST_WAIT = 4
"""Times its first wait that a lease copy waits at most."""


class Leases:
    """The questions of this worker, and its answers to those of others.

    me: this process among workers, also where two have the same name. decided: called once for each question.
    Times are monotonic seconds, those of the last tick.
    """

    def __init__(self, settler: Settler, presence: Presence, settings: WorkerSettings) -> None:
        self.me = new_id()
        self.open: dict[tuple[str, int], Question] = {}
        self._settler = settler
        self._presence = presence
        self._keys = [f"queue.{topology.encode_word(queue)}" for queue in settings.queues]
        self._lost_after_s = settings.lost_after_s
        self.decided: OnDecided = lambda _run, _finding: None
        self._company = Company(settings.lost_after_s)
        self._hello_at = float("-inf")
        self._now = float("-inf")
        self._returns = Returns()
        settler.on_left = self._tell_left

    # --- ours -------------------------------------------------------------------------------------------------------

    def must_ask(self, run: Run) -> bool:
        """Whether someone else may have this run. Only of what was delivered before, or stands for such a message."""
        if not self._lost_after_s or not (run.delivery.redelivered or run.envelope.state.lease):
            return False
        if run.foreign and run.delivery.message_id is None:
            return False  # its id was made here: nobody else could recognise it
        if self._returns.explain(run.key, run.delivery):
            return False
        return bool(self._company.alive) or not self._company.is_complete(self._now)

    def ask(self, run: Run) -> None:
        """Ask who has it; `decided` follows."""
        question = Question(run, self._now)
        self.open[run.key] = question
        journal.asking(run)
        self._say("owner", run)

    def defer_s(self, run: Run) -> float:
        """How long a lease copy waits: one hop of the ladder, longer from time to time."""
        return topology.coarse(self._lost_after_s, bits=1) * min(2.0 ** min(run.envelope.state.lease, 8), LONGEST_WAIT)

    def tick(self, now: float) -> None:
        """Ten times a second: say hello until it comes back, ask again, give up on who is silent. now: monotonic."""
        connection = self._settler.connection
        was_asleep, self._now = now - self._now > ASLEEP_S, now
        if not self._lost_after_s:
            return
        if was_asleep or not connection.is_open or connection.blocked is not None:
            for question in self.open.values():
                # silence proves nothing while nothing can be said or heard
                question.heard, question.since = None, now
            return
        if not self._company.is_listening and now - self._hello_at >= HELLO_AGAIN_S:
            self._hello_at = now
            for key in self._keys:
                self._send(key, "hello", {})
        for question in list(self.open.values()):
            again_s = HELLO_AGAIN_S if question.heard is None else self._lost_after_s / 3
            if self._is_over(question):
                self._forget_silent(question)
                self._close(question, Finding.FREE)
            elif now - question.asked >= again_s:
                question.asked = now
                self._say("owner", question.run)

    def _forget_silent(self, question: Question) -> None:
        """Nobody waits again for who is gone."""
        for member in self._company.silent(question.heard, self._now) - question.said_no:
            self._company.forget(member)

    def _is_over(self, question: Question) -> bool:
        if question.heard is None:
            return self._now - question.since >= DEAF * self._lost_after_s
        if not self._company.is_complete(self._now):
            return False
        return self._company.alive <= question.said_no | self._company.silent(question.heard, self._now)

    def _close(self, question: Question, finding: Finding) -> None:
        del self.open[question.run.key]
        self.decided(question.run, finding)

    def answered(self, reply: Reply) -> None:
        """Take an answer."""
        if reply.member:
            self._company.spoke(reply.member, self._now)
        for question in list(self.open.values()):
            job_id, copy = question.run.key
            said = reply.jobs.get(f"{job_id}.{copy}")
            self._company.tells(question.run.key, reply.member, reply.returned.get(f"{job_id}.{copy}", 0))
            if not reply.member and any(running.id == job_id for running in reply.running):
                said = "running"  # an older version, which answers as to a ping
            if said == "running":
                self._close(question, Finding.RUNNING)
            elif said == "ended":
                self._close(question, Finding.ENDED)
            elif said is not None:
                question.said_no.add(reply.member)
                self._look(question)

    def _look(self, question: Question) -> None:
        if self._is_over(question):
            self._close(question, Finding.FREE)

    def disconnected(self) -> None:
        """Nobody hears or is heard any more; who is there is to be learnt anew. What was asked for is the broker's."""
        self.open.clear()
        self._company.disconnected()
        self._hello_at = float("-inf")

    def bye(self) -> None:
        """An orderly end: nobody has to wait for this worker."""
        for key in self._keys:
            self._send(key, "bye", {})

    # --- asked by others --------------------------------------------------------------------------------------------

    def hear(self, request: Request) -> bool:
        """Take what a worker says. False: it is for somebody else."""
        if request.verb not in AMONG_WORKERS:
            return False
        if request.nonce == self.me:
            self._hear_myself(request)
            return True
        match request.verb:
            case "bye":
                self._company.left(request.nonce)
                for question in list(self.open.values()):
                    self._look(question)
            case "ended":
                for key in request.jobs.items():
                    self._settler.remember(key)
                    if key in self.open:
                        self._close(self.open[key], Finding.ENDED)
            case "returned":
                for key in request.jobs.items():
                    self._note_returned(key, request.counts.get(key[0], 0))
            case _:
                self._answer(request)
        return True

    def _answer(self, request: Request) -> None:
        """Of `hello` and `owner`. Who has just come is asked what the others were asked before."""
        if request.verb == "hello":
            self._company.said_hello(request.nonce, self._now)
        else:
            self._company.spoke(request.nonce, self._now)
        states = {
            f"{job_id}.{copy}": self._state_of((job_id, copy), request.nonce) for job_id, copy in request.jobs.items()
        }
        reply = self._presence.reply({}, states, None)
        known = self._settler.returned
        returned = {f"{key[0]}.{key[1]}": known[key] for key in request.jobs.items() if key in known}
        reply = msgspec.structs.replace(reply, functions=[], member=self.me, returned=returned)
        self._settler.announce(reply_message(request, reply))
        if request.verb == "hello":
            for question in self.open.values():
                self._say("owner", question.run, to=f"reply.{request.nonce}")

    def _hear_myself(self, request: Request) -> None:
        if request.verb == "hello" and not self._company.is_listening:
            self._company.listens(self._now, time.time())
        for key in request.jobs.items() if request.verb == "owner" else ():
            question = self.open.get(key)
            if question is not None and question.heard is None:
                question.heard = self._now
                self._look(question)

    def _state_of(self, key: tuple[str, int], asker: str) -> str:
        run = self._settler.runs.get(key)
        if run is None:
            return "ended" if key in self._settler.settled else "free"
        if key in self.open:
            # two messages of one run, both asked for: the lower nonce has it
            if self.me < asker:
                return "running"
            self._close(self.open[key], Finding.RUNNING)
            return "free"
        # what goes on elsewhere, or goes back to its queue, is not kept here
        left = isinstance(run.verdict, Defer) or (isinstance(run.verdict, HandBack) and not run.by_copy)
        return "free" if left else "running"

    def _tell_left(self, run: Run) -> None:
        """A run has ended or was stopped, and its message will come again, to whoever: so they know, though we stop."""
        if isinstance(run.verdict, HandBack) and not run.by_copy:
            if run.started:  # one that was only asked for may be another's
                self.returned(run.key, run.delivery)
        elif self._lost_after_s:
            self._say("ended", run)

    def came_late(self, key: tuple[str, int], delivery: Delivery) -> None:
        """It went back before it was looked at. Nobody has it, if nobody had it before."""
        known = key in self._settler.runs or key in self._settler.settled
        if not known and (not delivery.redelivered or self._returns.explain(key, delivery)):
            self.returned(key, delivery)

    def returned(self, key: tuple[str, int], delivery: Delivery) -> None:
        """Tell that this run goes back to its queue and is nobody's: who gets that message next need not ask."""
        count = (delivery.delivery_count or 0) + 1
        self._note_returned(key, count)
        if self._lost_after_s:
            job_id, copy = key
            word = topology.encode_word(delivery.queue)
            self._send(f"queue.{word}", "returned", {job_id: copy}, {job_id: count})

    def _note_returned(self, key: tuple[str, int], count: int) -> None:
        self._returns.note(key, count)
        question = self.open.get(key)
        if question is not None and self._returns.explain(key, question.run.delivery):
            self._close(question, Finding.FREE)

    def lived_through(self, run: Run) -> int:
        """How many of the deliveries of a run that nobody has have killed no worker, as far as is known."""
        count, handed_back = run.delivery.delivery_count, self._returns.excuse(run.key, run.delivery)
        if count is None:
            return handed_back
        lost = self._company.lost(run.key) + self._settler.returned.get(run.key, 0) + handed_back
        deaths = self._company.most_deaths(run.envelope.job.iat)
        return lost if deaths is None else max(lost, count - deaths)

    def worker_died(self, run: Run) -> bool:
        """Whether a run that nobody has was lost with its worker, as far as its message tells.

        Only a lease copy does not count its deliveries. It stands for a run that was stopped in good order or for one
        whose worker died.
        """
        return bool(run.envelope.state.lease) and not self._returns.know(run.key)

    # --- words ------------------------------------------------------------------------------------------------------

    def _say(self, verb: str, run: Run, to: str | None = None) -> None:
        job_id, copy = run.key
        self._send(to or f"queue.{topology.encode_word(run.delivery.queue)}", verb, {job_id: copy})

    def _send(self, key: str, verb: str, jobs: dict[str, int], counts: dict[str, int] | None = None) -> None:
        request = Request(verb=verb, nonce=self.me, at=time.time(), jobs=jobs, counts=counts or {})
        self._settler.announce(request_message(key, request))
