"""The examples for jobs that may run twice do what they say when they run twice."""

import importlib.util
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from jobrunner import Permanent
from jobrunner.registry import inside

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_deposit_that_runs_twice_counts_once(tmp_path: Path) -> None:
    deposit = example("once_in_sqlite").deposit
    database = str(tmp_path / "accounts.db")
    with inside({"id": "one", "attempt": 1}):
        assert deposit(database, "ada", 5) == 5
        assert deposit(database, "ada", 5) == 5
    with inside({"id": "two", "attempt": 1}):
        assert deposit(database, "ada", 5) == 10
    with inside({"id": "one", "attempt": 2}):
        assert deposit(database, "ada", 5) == 5
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT cents FROM account").fetchall() == [(10,)]
    db.close()


class Bank(BaseHTTPRequestHandler):
    charges: dict[str, int]

    def do_POST(self) -> None:
        cents = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["cents"]
        if cents < 0:
            self.send_error(422)
            return
        number = self.charges.setdefault(self.headers["Idempotency-Key"], len(self.charges) + 1)
        body = json.dumps({"id": number}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that is overridden
        pass


@pytest.fixture
def bank() -> Iterator[str]:
    Bank.charges = {}
    with HTTPServer(("127.0.0.1", 0), Bank) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/charges"
        server.shutdown()
        thread.join()


def test_a_charge_that_runs_twice_is_made_once(bank: str) -> None:
    charge = example("once_over_http").charge
    with inside({"id": "one", "attempt": 1}):
        assert [charge(bank, 500), charge(bank, 500)] == ["1", "1"]
    with inside({"id": "two", "attempt": 1}):
        assert charge(bank, 500) == "2"
    assert len(Bank.charges) == 2


def test_a_refused_charge_is_not_tried_again(bank: str) -> None:
    charge = example("once_over_http").charge
    with inside({"id": "one", "attempt": 1}), pytest.raises(Permanent):
        charge(bank, -1)
