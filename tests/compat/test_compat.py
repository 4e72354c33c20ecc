"""What any version has written is read for ever: jobs and events from the wire, view files from the disk.

A folder for each version; `python -m tests.compat.write` wrote it, and nothing changes it. A sample may be told more
fully by a later version, never otherwise.
"""

import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobrunner import envelope, events
from jobrunner.broker import topology
from jobrunner.broker.groups import parts
from jobrunner.broker.message import message_id_of
from jobrunner.broker.stream import Record
from jobrunner.view.store import Store
from tests.compat import write
from tests.support.history import a_view

HERE = Path(__file__).parent
VERSIONS = sorted(path for path in HERE.iterdir() if path.name.startswith("v") and path.is_dir())
each_version = pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)


KNOWN_SINCE = {"max_attempts"}
"""What was told as null and is known to a later version."""


def samples(name: str) -> list[Any]:
    found = [(folder.name, sample) for folder in VERSIONS for sample in json.loads((folder / name).read_text())]
    return [pytest.param(sample, id=f"{version}-{sample.get('name', sample.get('kind'))}") for version, sample in found]


def holds(told: Any, expected: Any) -> bool:
    """Whether `told` is what was expected, or more: fields may have come."""
    if isinstance(expected, dict):
        return isinstance(told, dict) and all(
            key in told and (holds(told[key], expected[key]) or (key in KNOWN_SINCE and expected[key] is None))
            for key in expected
        )
    if isinstance(expected, list):
        return isinstance(told, list) and len(told) == len(expected) and all(map(holds, told, expected))
    return bool(told == expected)


def plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


@pytest.mark.parametrize("sample", samples("jobs.json"))
def test_jobs_are_read_as_they_were_meant(sample: dict[str, Any]) -> None:
    job = envelope.decode(sample["body"].encode(), sample["message_id"])
    for name, value in json.loads(sample["body"]).items():
        told = getattr(job, name)
        told = json.loads(bytes(told)) if isinstance(told, msgspec.Raw) else told
        assert (base64.b64encode(told).decode() if isinstance(told, bytes) else told) == value
    assert envelope.state_of(sample["headers"]).headers() == sample["headers"]


@pytest.mark.parametrize("sample", [*samples("events.json"), *samples("added.json")])
def test_events_are_read_as_they_were_meant(sample: dict[str, Any]) -> None:
    event = events.decode(sample["body"].encode())
    assert events.kind_of(event) == sample["kind"]
    assert holds(plain(event), json.loads(sample["body"]))
    assert message_id_of(event) == sample["message_id"]


def test_several_events_in_one_message_are_read_as_they_were_meant() -> None:
    bodies = [
        b'{"kind":"succeeded","v":1,"at":3.0,"id":"%b","run":"r.1","attempt":1,"ran":{"worker":"w","host":"h","pid":1,'
        b'"started_at":1.0,"ended_at":2.0}}' % job_id
        for job_id in (b"k7f2m9xq4tzd8w1r", b"k7f2m9xq4tzd8w1s")
    ]
    found = parts("succeeded.r%2E1.k7f2m9xq4tzd8w1r", b"[%b]" % b",".join(bodies))
    assert found == [
        ("succeeded.r%2E1.k7f2m9xq4tzd8w1r", bodies[0]),
        ("succeeded.r%2E1.k7f2m9xq4tzd8w1s", bodies[1]),
    ]
    assert [events.kind_of(events.decode(body)) for _, body in found] == ["succeeded", "succeeded"]


@each_version
def test_a_ledger_is_folded_as_it_was(folder: Path) -> None:
    bodies = [sample["body"].encode() for sample in json.loads((folder / "events.json").read_text())]
    ids = [sample["message_id"] for sample in json.loads((folder / "events.json").read_text())]
    found = [
        Record(n, topology.EVENTS, "k", name, body) for n, (name, body) in enumerate(zip(ids, bodies, strict=True))
    ]
    with a_view() as store:
        store.fold(found)
        assert holds(write.known(store), json.loads((folder / "view.json").read_text()))


@each_version
def test_a_view_file_is_opened_and_tells_what_it_told(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "view.sqlite"
    db = sqlite3.connect(path)
    db.executescript((folder / "view.sql").read_text())
    db.close()
    notices: list[str] = []
    with Store.open(path, on_notice=notices.append) as store:
        assert holds(write.known(store), json.loads((folder / "view.json").read_text()))
        assert store.anchor is not None
        queued = Record(store.anchor[0] + 1, topology.EVENTS, "k", None, events.encode(write.told()[4]))
        store.fold([queued])
    assert notices == []


def test_this_version_has_samples_of_every_kind() -> None:
    folder = HERE / f"v{events.VERSION}"
    files = (folder / "events.json", folder / "added.json")
    kinds = {sample["kind"] for file in files for sample in json.loads(file.read_text())}
    assert kinds == set(events.KINDS)


def test_samples_are_never_written_again() -> None:
    with pytest.raises(FileExistsError):
        write.main(VERSIONS[0])
