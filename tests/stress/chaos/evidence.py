"""Collects what a chaos run has left: files, the stream to its end, dead letters. Imports nothing of jobrunner."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika

from tests.stress.chaos import notes
from tests.stress.chaos.case import Evidence

TOLD = ("succeeded", "dead", "cancelled", "expired", "retrying", "interrupted", "suppressed")
PREFETCH = 500
SILENCE_S = 60.0


def collect(folder: Path, url: str) -> Evidence:
    """All but what the run itself must look at: queues, processes, sizes."""
    evidence = from_files(folder)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        marker = uuid4().hex
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(message_id=marker, delivery_mode=2)
        channel.basic_publish("jobrunner.v1.events", "marker.-.-", b"{}", properties, mandatory=True)
        evidence.events, evidence.read_to_end = _ledger(connection, marker)
        evidence.dead = _dead(connection)
    finally:
        if connection.is_open:
            connection.close()
    kept = {"events": evidence.events, "dead": evidence.dead, "read_to_end": evidence.read_to_end}
    (folder / "read").write_text(json.dumps(kept, default=str))
    return evidence


def from_files(folder: Path) -> Evidence:
    """What the processes of the run have written; with what an earlier `collect` has read of the broker."""
    evidence = Evidence()
    for ledger in sorted(folder.glob("ledger-*")):
        evidence.producers += notes.read(ledger)
    evidence.witness = list(_witness(folder / "witness"))
    evidence.faults = notes.read(folder / "faults")
    evidence.starts = notes.read(folder / "starts")
    if (folder / "read").exists():
        for name, value in json.loads((folder / "read").read_text()).items():
            setattr(evidence, name, value)
    return evidence


def _witness(path: Path) -> list[tuple[str, str, int, int, int, float]]:
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        word, job_id, attempt, pid, parent, t = line.split()
        lines.append((word, job_id, int(attempt), int(pid), int(parent), float(t)))
    return lines


def _ledger(connection: pika.BlockingConnection, marker: str) -> tuple[list[dict[str, Any]], bool]:
    """Every event up to the marker that was published last."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)
    found: list[dict[str, Any]] = []
    consumed = channel.consume(
        "jobrunner.v1.ledger", arguments={"x-stream-offset": "first"}, inactivity_timeout=SILENCE_S
    )
    for method, properties, body in consumed:
        if method is None:
            return found, False
        channel.basic_ack(method.delivery_tag)
        if properties.message_id == marker:
            channel.cancel()
            return found, True
        told = json.loads(body)
        for event in told if isinstance(told, list) else [told]:
            if event.get("kind") not in TOLD:
                continue
            if event["kind"] == "succeeded":
                event["result"] = str(event.get("result")).split("\n", 1)[0]
            found.append(event)
    return found, False


def _dead(connection: pika.BlockingConnection) -> list[dict[str, Any]]:
    """The dead letters, which stay where they are."""
    channel = connection.channel()
    letters = []
    while True:
        method, properties, _ = channel.basic_get("jobrunner.v1.dead")
        if method is None:
            break
        letters.append({"id": properties.message_id, **(properties.headers or {})})
    channel.close()
    return letters
