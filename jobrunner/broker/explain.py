"""What pika and the operating system raise, as rows of the error catalogue.

The texts are RabbitMQ's own (rabbit_reader.erl, rabbit_channel.erl, rabbit_amqqueue.erl); pika passes them on in the
exception or only in its `repr`, and `str` of some of its exceptions is empty.
"""

import re
import socket
import ssl

from pika import exceptions
from pika.adapters.utils import connection_workflow

from jobrunner.broker import tls
from jobrunner.brokerurl import BrokerUrl
from jobrunner.durations import format_duration
from jobrunner.errors import (
    BrokerLost,
    BrokerRefused,
    BrokerTimeout,
    BrokerUnknownHost,
    EntityDiffers,
    GuestRemote,
    JobrunnerError,
    LoginRefused,
    PermissionRefused,
    VhostMissing,
    VhostRefused,
)

_CLOSE_IN_REPR = re.compile(r"ConnectionClosedByBroker: \((\d+)\) (['\"])(.*)\2", re.DOTALL)
_VHOST_MISSING = re.compile(r"vhost \S+ not found")
_VHOST_REFUSED = re.compile(r"access to vhost .* refused for user(?!.*limit)")
_FORBIDDEN = re.compile(r"(?:(configure|write|read) )?access to (queue|exchange|topic) '(.*?)' in ")
_TOPIC_EXCHANGE = re.compile(r"in exchange '(.*?)' in ")
_DIFFERS = re.compile(
    r"inequivalent arg '(?P<arg>[^']+)' for (?P<kind>queue|exchange) '(?P<name>.+?)' in vhost '.*?': "
    r"received (?P<wanted>.+?) but current is (?P<found>.+)$",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:the value )?'?(.*?)'?(?: of type '\w+')?$", re.DOTALL)
_OS_ERROR = re.compile(r"\(\d+, (['\"])(.*?)\1\)")
_VERBS = {"configure": "create", "write": "write", "read": "read"}


def explain(exc: BaseException, url: BrokerUrl, timeout_s: float, *, verb: str = "create") -> JobrunnerError:
    """The error to show for `exc`.

    timeout_s: how long was waited, for the timeout's sentence. verb: create, write or read: what a 403 refused, where
    the broker does not say (before 3.12).
    """
    cause = _innermost(exc)
    match cause:
        case JobrunnerError():
            return cause
        case ssl.SSLError():
            return tls.refused(cause, url)
        case ConnectionRefusedError():
            return BrokerRefused(address=url.address)
        case socket.gaierror() | UnicodeError():  # the latter for what is no name at all, such as `a..b`
            return BrokerUnknownHost(host=url.host, origin=url.origin)
        case TimeoutError() | connection_workflow.AMQPConnectorStackTimeout():
            return BrokerTimeout(address=url.address, timeout=format_duration(timeout_s))
        case exceptions.ChannelClosed(args=(code, text)) | exceptions.ConnectionClosed(args=(code, text)):
            return _closed(int(code), str(text), url, verb)
        case (
            exceptions.ProbableAuthenticationError()
            | exceptions.ProbableAccessDeniedError()
            | exceptions.IncompatibleProtocolError()
        ):
            return _while_opening(cause, url)
        case _:
            return BrokerLost(address=url.address, reason=reason_of(cause))


def _innermost(exc: BaseException) -> BaseException:
    """pika wraps what happened up to three times while it connects."""
    for _ in range(8):
        match exc:
            case connection_workflow.AMQPConnectionWorkflowFailed(exceptions=(*_, last)):
                exc = last
            case connection_workflow.AMQPConnectorPhaseErrorBase(exception=BaseException() as inner):
                exc = inner
            case exceptions.AMQPConnectionError(args=(BaseException() as inner,)):
                exc = inner
            case _:
                return exc
    return exc


def _while_opening(exc: BaseException, url: BrokerUrl) -> JobrunnerError:
    """pika guesses from the stage at which the broker hung up; the broker's own words are in the text."""
    text = str(exc.args[0]) if exc.args else ""
    if found := _CLOSE_IN_REPR.search(text):
        return _closed(int(found[1]), found[3].replace("\\'", "'"), url, "create")
    if isinstance(exc, exceptions.ProbableAuthenticationError):
        return _login_refused(url)
    if isinstance(exc, exceptions.ProbableAccessDeniedError):
        return VhostRefused(vhost=url.vhost, user=url.user)
    if url.tls:  # TLS 1.3 tells of a certificate that it wants only after the handshake, and then hangs up
        return tls.certificate_wanted(url)
    reason = "it hung up at once, so it may not be an AMQP port, or it is one for TLS (amqps://)"
    return BrokerLost(address=url.address, reason=reason)


def _closed(code: int, text: str, url: BrokerUrl, verb: str) -> JobrunnerError:
    if code == 403 and "Login was refused" in text:
        return _login_refused(url)
    if code == 530 and _VHOST_MISSING.search(text):
        return VhostMissing(vhost=url.vhost, host=url.host)
    if code == 530 and _VHOST_REFUSED.search(text):
        return VhostRefused(vhost=url.vhost, user=url.user)
    if code == 403:
        return _forbidden(text, url, verb)
    if code == 406 and (found := _DIFFERS.search(text)):
        difference = f"{found['arg']} is {_value(found['found'])}, not {_value(found['wanted'])}"
        raw = {"argument": found["arg"], "found": found["found"]}
        return EntityDiffers(kind=found["kind"], name=found["name"], difference=difference, **raw)
    return BrokerLost(address=url.address, reason=_plain(code, text))


def _login_refused(url: BrokerUrl) -> JobrunnerError:
    # RabbitMQ gives one text for a wrong password and for guest from afar, and tells only its own log which it was
    if url.user == "guest" and not url.is_loopback:
        return GuestRemote()
    return LoginRefused(host=url.host, user=url.user)


def _forbidden(text: str, url: BrokerUrl, verb: str) -> JobrunnerError:
    found = _FORBIDDEN.search(text)
    if not found:
        return PermissionRefused(user=url.user, verb="use", entity=_plain(403, text), vhost=url.vhost)
    entity = found[3]
    if found[2] == "topic" and (exchange := _TOPIC_EXCHANGE.search(text)):
        entity = f"{exchange[1]} {found[3]}"
    what = _VERBS.get(found[1] or "", verb)
    # what is missing an administrator creates; a right on what is there is given
    hint = None if what == "create" else f"rabbitmqctl list_user_permissions {url.user} · jobrunner doctor"
    return PermissionRefused(user=url.user, verb=what, entity=entity, vhost=url.vhost, hint=hint)


def _value(text: str) -> str:
    """A value out of a 406: `the value '100' of type 'signedint'` is 100, `none` is "not set"."""
    if text.strip() == "none":
        return "not set"
    found = _VALUE.match(text.strip())
    return f"'{found[1]}'" if found else text


def _plain(code: int, text: str) -> str:
    """RabbitMQ's reason without its capital word: `PRECONDITION_FAILED - no queue` is `no queue (406)`."""
    return f"{text.partition(' - ')[2] or text} ({code})"


def reason_of(exc: BaseException) -> str:
    """One line on why a connection ended; never empty."""
    match exc:
        case exceptions.ChannelClosed(args=(code, text)) | exceptions.ConnectionClosed(args=(code, text)):
            return _plain(int(code), str(text))
        case exceptions.AMQPHeartbeatTimeout():
            return "no heartbeat from the broker"
        case exceptions.StreamLostError(args=(str() as text, *_)):
            if found := _OS_ERROR.search(text):
                return found[2].lower()
            return "the broker hung up" if "EOF" in text else text.removeprefix("Stream connection lost: ")
        case OSError(strerror=str() as text) if text:
            return text
    return str(exc) or type(exc).__name__
