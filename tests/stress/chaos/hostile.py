"""Sends what is no job, straight to the queue, with every confirm waited for: each must end as a dead letter.

    python -m tests.stress.chaos.hostile URL LEDGER SEED RATE

Imports nothing of jobrunner.
"""

import hashlib
import json
import random
import signal
import sys
from pathlib import Path
from threading import Event

import pika
from pika.exceptions import AMQPError

from tests.stress.chaos.notes import Notes

NAUGHTY = [
    b'{"v":1,"id":',
    b"\x80\x04\x95",
    b"[" * 50_000,
    b'{"v":1,"task":"os:system","args":["true"]}',
    b"\xff\xfe",
    b"Hello...",
]
HEADERS = [
    None,
    {"x-death": [{"queue": "main", "count": 9, "reason": "expired"}]},
    {"x-delivery-count": 99, "jr-copy": -5, "jr-attempt": "many"},
    {"CC": ["nobody"], "jr-reason": "succeeded"},
]


def main() -> None:
    url, ledger, seed, rate = sys.argv[1:]
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    notes, draw = Notes(Path(ledger)), random.Random(seed)
    while not stopped.is_set():
        try:
            connection = pika.BlockingConnection(pika.URLParameters(url + "?blocked_connection_timeout=8"))
            channel = connection.channel()
            channel.confirm_delivery()
            while not stopped.wait(draw.expovariate(float(rate))):
                send(channel, notes, draw)
                connection.process_data_events(0)
        except (AMQPError, OSError, ValueError):
            stopped.wait(1.0)


def send(channel: pika.adapters.blocking_connection.BlockingChannel, notes: Notes, draw: random.Random) -> None:
    body = draw.choice(NAUGHTY) + draw.randbytes(12).hex().encode()
    sha256 = hashlib.sha256(body).hexdigest()
    notes.write(do="hostile", sha256=sha256)
    properties = pika.BasicProperties(headers=draw.choice(HEADERS), delivery_mode=draw.choice([1, 2]))
    try:
        channel.basic_publish("", "main", body, properties, mandatory=True)
    except (pika.exceptions.NackError, pika.exceptions.UnroutableError):
        notes.write(do="hostile-nothing", sha256=sha256)
        return
    notes.write(do="hostile-ok", sha256=sha256)


if __name__ == "__main__":
    main()
    print(json.dumps("ended"))
