"""A job that waits, as the worker holds it that looks after it."""

from typing import Final

import msgspec

from jobrunner.broker.delivery import Delivery
from jobrunner.broker.message import signature_of
from jobrunner.brokerurl import BrokerUrl
from jobrunner.envelope import Envelope, Job
from jobrunner.signing import Refused
from jobrunner.worker import reading
from jobrunner.worker.policy import Policy
from jobrunner.worker.reading import Unreadable, unreadable

_NO_POLICY: Final = Policy(worker="")
"""Whatever the job is: whether it may run is for who gets it later."""


class Held(msgspec.Struct):
    """A job that waits: what of it is needed here."""

    envelope: Envelope
    delivery: Delivery


def envelope_of(delivery: Delivery, url: BrokerUrl) -> Envelope | Unreadable:
    """The job in a message. With keys it must be signed, for the queue that it will go to."""
    got = reading.read(delivery, _NO_POLICY)
    if isinstance(got, Unreadable):
        return got
    signature = signature_of(url, got.job.queue, delivery)
    if isinstance(signature, Refused):
        return unreadable(delivery, signature.reason, signature.message)
    return msgspec.structs.replace(got, signature=signature)


def slim(envelope: Envelope) -> Envelope:
    """The same without what only a run needs: there may be many of them, and the broker has it all."""
    job = envelope.job
    slim = Job(
        v=job.v,
        id=job.id,
        queue=job.queue,
        iat=job.iat,
        task=job.task,
        argv=job.argv[:1] if job.argv else None,
        expires_at=job.expires_at,
        run=job.run,
        after=job.after,
    )
    return msgspec.structs.replace(envelope, job=slim, body=b"")
