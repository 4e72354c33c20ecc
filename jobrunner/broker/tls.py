"""TLS to the broker: the one place that makes a context, and what a refused handshake means in words.

Nothing here can be told to skip verification.
"""

import asyncio
import contextlib
import ssl
from typing import Any

import msgspec

from jobrunner.brokerurl import BrokerUrl
from jobrunner.errors import ConfigInvalid, TlsRefused

NAMES_S = 3.0
"""Bound of the second handshake, which only finds the names for a sentence."""

_NAME_DIFFERS = 62
_EXPIRED, _NOT_YET_VALID, _SELF_SIGNED = 10, 9, 18
_UNKNOWN_AUTHORITY = (2, 19, 20, 21)
"""Verification codes of OpenSSL. Source: x509_vfy.h."""

_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE")
_OLD = ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_INSUFFICIENT_SECURITY")
_ABOUT_OURS = ("CERTIFICATE", "SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_UNKNOWN_CA")
"""Parts of the reasons with which a server refuses a client's certificate, or that there is none."""


def context_of(url: BrokerUrl) -> ssl.SSLContext:
    """Verifies the chain and the name; TLS 1.2 at least. Raises: ConfigInvalid for a file that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=url.ca_file)
    except (OSError, ValueError) as exc:
        raise _unusable("ca_file", url.ca_file, exc) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if url.cert_file:
        try:
            context.load_cert_chain(url.cert_file, url.key_file, _no_password)
        except (OSError, ValueError) as exc:
            both = f"{url.cert_file} with {url.key_file}" if url.key_file else url.cert_file
            raise _unusable("cert_file", both, exc) from exc
    elif url.key_file:
        raise ConfigInvalid(problem="[tls] key_file needs a cert_file.", hint="jobrunner config show --origin")
    return context


def _no_password() -> str:
    """Without this, OpenSSL would ask on the terminal for the password of an encrypted key."""
    raise ValueError("the key has a password")


def _unusable(key: str, path: str | None, exc: Exception) -> ConfigInvalid:
    if isinstance(exc, ssl.SSLError):
        reason = "no certificate in PEM form" if key == "ca_file" else "certificate and key do not fit, or are not PEM"
    else:
        reason = getattr(exc, "strerror", None) or str(exc)
    return ConfigInvalid(problem=f"[tls] {key} {path}: {reason}.", hint="jobrunner config show --origin")


def refused(exc: ssl.SSLError, url: BrokerUrl) -> TlsRefused:
    """A handshake that failed, in words. The names in the certificate are not known here: see `named`."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _untrusted(exc, url)
    reason = str(getattr(exc, "reason", None) or "")
    if reason in _PLAIN:
        text = f"The broker does not speak TLS at {url.address}"
        return TlsRefused(reason=text, hint="amqps:// is port 5671, as a rule · amqp:// for a port without TLS")
    if reason in _OLD:
        return TlsRefused(
            reason=f"The broker at {url.address} offers no TLS that is safe enough, from 1.2 on",
            hint="ssl_options.versions",
        )
    if isinstance(exc, ssl.SSLEOFError) or any(part in reason for part in _ABOUT_OURS):
        return certificate_wanted(url)
    shown = reason.replace("_", " ").lower() or str(exc)
    return TlsRefused(reason=f"No TLS with the broker at {url.address}: {shown}", hint="rabbitmq-diagnostics listeners")


def _untrusted(exc: ssl.SSLCertVerificationError, url: BrokerUrl) -> TlsRefused:
    known = f"in {url.ca_file}" if url.ca_file else "known to this machine"
    code = exc.verify_code
    if code == _NAME_DIFFERS or "mismatch" in exc.verify_message:
        return TlsRefused(reason=f"The broker's certificate is not for '{_name(url)}'", name_differs=True)
    if code == _EXPIRED:
        return TlsRefused(reason="The broker's certificate has expired", hint="a new certificate for the broker")
    if code == _NOT_YET_VALID:
        return TlsRefused(
            reason="The broker's certificate is not valid yet: one of the two clocks is wrong", hint="date"
        )
    if code == _SELF_SIGNED:
        return TlsRefused(reason=f"The broker's certificate is self-signed, and not {known}", hint="[tls] ca_file")
    if code in _UNKNOWN_AUTHORITY:
        text = f"The broker's certificate comes from an authority that is not {known}"
        return TlsRefused(reason=text, hint="[tls] ca_file")
    reason = f"The broker's certificate is not trusted: {exc.verify_message.rstrip('.')}"
    return TlsRefused(reason=reason, hint="[tls] ca_file")


def certificate_wanted(url: BrokerUrl) -> TlsRefused:
    """The broker hung up on us after it had seen our certificate, or none."""
    if url.cert_file:
        text = f"The broker at {url.address} does not accept the certificate {url.cert_file}"
        return TlsRefused(reason=text, hint="[tls] cert_file, key_file · the broker's ssl_options.cacertfile")
    text = f"The broker at {url.address} demands a client certificate"
    return TlsRefused(reason=text, hint="[tls] cert_file, key_file")


async def named(error: TlsRefused, url: BrokerUrl) -> TlsRefused:
    """The same error with the names that the certificate has, where the name was what differed.

    OpenSSL does not give them with its refusal. A second handshake, which verifies the chain but no name and sends
    nothing, does.
    """
    if not error.fields.get("name_differs"):
        return error
    names: list[str] = []
    with contextlib.suppress(OSError, TimeoutError, ConfigInvalid):
        async with asyncio.timeout(NAMES_S):
            names = await _names(url)
    if not names:
        return error
    shown = ", ".join(f"'{name}'" for name in names)
    hint = f'[tls] server_name = "{names[0]}"' if not names[0].startswith("*") else error.hint
    return TlsRefused(reason=f"The broker's certificate is for {shown}, not '{_name(url)}'", hint=hint)


async def _names(url: BrokerUrl) -> list[str]:
    context = context_of(url)
    context.check_hostname = False
    _, writer = await asyncio.open_connection(url.host, url.port, ssl=context, server_hostname=_name(url))
    try:
        found: dict[str, Any] = writer.get_extra_info("peercert") or {}
    finally:
        writer.transport.abort()
    entries = msgspec.convert(found.get("subjectAltName", ()), list[tuple[str, str]])
    return list(dict.fromkeys(name for kind, name in entries if kind in ("DNS", "IP Address")))[:4]


def _name(url: BrokerUrl) -> str:
    return url.server_name or url.host
