import socket
import ssl

import pytest
from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from jobrunner.broker.explain import explain, reason_of
from jobrunner.brokerurl import parse_url
from jobrunner.errors import BrokerLost, GuestRemote, JobrunnerError, LoginRefused

URL = parse_url("amqp://app:secret@broker.example:5673/shop")
GUEST = parse_url("amqp://broker.example/shop")


def wrapped(exc: BaseException) -> Exception:
    """As pika wraps an error of the socket while it connects."""
    inner = workflow.AMQPConnectorSocketConnectError(exc)
    return exceptions.AMQPConnectionError(workflow.AMQPConnectionWorkflowFailed([ValueError("first"), inner]))


def while_opening(kind: type[Exception], code: int, text: str) -> Exception:
    return kind(repr(exceptions.ConnectionClosedByBroker(code, text)))


LOGIN = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
DIFFERS = (
    "PRECONDITION_FAILED - inequivalent arg '{}' for queue 'task_queue' in vhost 'shop': received {} but current is {}"
)

ROWS: list[tuple[BaseException, str, str]] = [
    (
        wrapped(ConnectionRefusedError(111, "Connection refused")),
        "broker_refused",
        "Cannot reach the broker at broker.example:5673: connection refused.",
    ),
    (
        workflow.AMQPConnectionWorkflowFailed([socket.gaierror(-2, "Name or service not known")]),
        "broker_unknown_host",
        "Cannot find the host 'broker.example' (from --url).",
    ),
    (TimeoutError(), "broker_timeout", "No answer from broker.example:5673 within 10 s."),
    (
        wrapped(workflow.AMQPConnectorStackTimeout("x")),
        "broker_timeout",
        "No answer from broker.example:5673 within 10 s.",
    ),
    (
        while_opening(exceptions.ProbableAuthenticationError, 403, LOGIN),
        "login_refused",
        "RabbitMQ at broker.example refused user 'app': wrong password or unknown user.",
    ),
    (
        exceptions.ProbableAuthenticationError(repr(exceptions.StreamLostError("Transport indicated EOF"))),
        "login_refused",
        "RabbitMQ at broker.example refused user 'app': wrong password or unknown user.",
    ),
    (
        while_opening(exceptions.ProbableAccessDeniedError, 530, "NOT_ALLOWED - vhost shop not found"),
        "vhost_missing",
        "There is no virtual host 'shop' on broker.example.",
    ),
    (
        while_opening(
            exceptions.ProbableAccessDeniedError,
            530,
            "NOT_ALLOWED - access to vhost 'shop' refused for user 'app'",
        ),
        "vhost_refused",
        "User 'app' has no rights in virtual host 'shop'.",
    ),
    (
        while_opening(
            exceptions.ProbableAccessDeniedError,
            530,
            "NOT_ALLOWED - access to vhost 'shop' refused for user 'app': connection limit (2) is reached",
        ),
        "broker_lost",
        (
            "The connection to the broker at broker.example:5673 ended: access to vhost 'shop' refused for user 'app': "
            "connection limit (2) is reached (530)."
        ),
    ),
    (
        exceptions.ChannelClosedByBroker(
            403, "ACCESS_REFUSED - access to queue 'q' in vhost 'shop' refused for user 'app'"
        ),
        "permission",
        "User 'app' may not write 'q' in 'shop'.",
    ),
    (
        exceptions.ChannelClosedByBroker(
            403, "ACCESS_REFUSED - configure access to exchange 'e' in vhost 'shop' refused for user 'app'"
        ),
        "permission",
        "User 'app' may not create 'e' in 'shop'.",
    ),
    (
        exceptions.ChannelClosedByBroker(
            403,
            "ACCESS_REFUSED - write access to topic 'dead.-.x' in exchange 'jobrunner.v1.events' in vhost 'shop' "
            "refused for user 'app'",
        ),
        "permission",
        "User 'app' may not write 'jobrunner.v1.events dead.-.x' in 'shop'.",
    ),
    (
        exceptions.ChannelClosedByBroker(
            406, DIFFERS.format("x-queue-type", "the value 'quorum' of type 'longstr'", "none")
        ),
        "entity_differs",
        "The queue 'task_queue' has other settings: x-queue-type is not set, not 'quorum'.",
    ),
    (
        exceptions.ChannelClosedByBroker(406, DIFFERS.format("durable", "'true'", "'false'")),
        "entity_differs",
        "The queue 'task_queue' has other settings: durable is 'false', not 'true'.",
    ),
    (
        exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - unknown delivery tag 7"),
        "broker_lost",
        "The connection to the broker at broker.example:5673 ended: unknown delivery tag 7 (406).",
    ),
    (
        exceptions.StreamLostError("Stream connection lost: ConnectionResetError(104, 'Connection reset by peer')"),
        "broker_lost",
        "The connection to the broker at broker.example:5673 ended: connection reset by peer.",
    ),
    (
        exceptions.StreamLostError("Transport indicated EOF"),
        "broker_lost",
        "The connection to the broker at broker.example:5673 ended: the broker hung up.",
    ),
    (
        exceptions.AMQPHeartbeatTimeout("x"),
        "broker_lost",
        "The connection to the broker at broker.example:5673 ended: no heartbeat from the broker.",
    ),
    (
        exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced connection closure"),
        "broker_lost",
        "The connection to the broker at broker.example:5673 ended: broker forced connection closure (320).",
    ),
    (
        exceptions.IncompatibleProtocolError("x"),
        "broker_lost",
        (
            "The connection to the broker at broker.example:5673 ended: it hung up at once, so it may not be an "
            "AMQP port, or it is one for TLS (amqps://)."
        ),
    ),
    (
        ssl.SSLError(1, "[SSL: X] x"),
        "tls",
        "No TLS with the broker at broker.example:5673: [SSL: X] x.",
    ),
    (
        exceptions.AMQPConnectionError(),
        "broker_lost",
        "The connection to the broker at broker.example:5673 ended: AMQPConnectionError.",
    ),
]


@pytest.mark.parametrize(("exc", "code", "text"), ROWS, ids=[f"{row[1]}-{n}" for n, row in enumerate(ROWS)])
def test_each_failure_has_its_row_of_the_catalogue(exc: BaseException, code: str, text: str) -> None:
    error = explain(exc, URL, 10.0, verb="write")
    assert error.code == code
    if text:
        assert error.message == text


def test_guest_away_from_the_brokers_machine_is_told_so() -> None:
    refused = while_opening(exceptions.ProbableAuthenticationError, 403, LOGIN)
    assert isinstance(explain(refused, GUEST, 10.0), GuestRemote)
    assert isinstance(explain(refused, parse_url("amqp://127.0.0.1"), 10.0), LoginRefused)


def test_what_is_explained_already_stays_as_it_is() -> None:
    error = BrokerLost(address="a:1", reason="no confirm within 30 s")
    assert explain(error, URL, 10.0) is error


@pytest.mark.parametrize("row", ROWS)
def test_no_reason_is_empty_and_none_shows_the_password(row: tuple[BaseException, str, str]) -> None:
    error = explain(row[0], URL, 10.0)
    assert isinstance(error, JobrunnerError)
    assert reason_of(row[0])
    assert "secret" not in error.message + error.hint
