"""How a broker is connected to: credentials, TLS, heartbeat, TCP options."""

from typing import Any

import pika

from jobrunner import __version__
from jobrunner.broker import tls
from jobrunner.brokerurl import BrokerUrl

_TCP_OPTIONS = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
"""So that a peer that vanished is noticed in half a minute; without, Linux repeats itself for 15. Source: tcp(7)."""


def parameters(url: BrokerUrl, role: str, *, heartbeat_s: int, timeout_s: float) -> pika.ConnectionParameters:
    """pika's parameters of one try. role: as the broker's list of connections shows it. timeout_s: of the whole try,
    which the caller ends; pika's own limits only keep out of its way.

    Raises: ConfigInvalid for a file of `[tls]` that cannot be used.
    """
    options: dict[str, Any] = {}
    if url.tls:
        options["ssl_options"] = pika.SSLOptions(tls.context_of(url), url.server_name or url.host)
    return pika.ConnectionParameters(
        host=url.host,
        port=url.port,
        virtual_host=url.vhost,
        credentials=pika.PlainCredentials(url.user, url.password),
        heartbeat=heartbeat_s,
        socket_timeout=timeout_s * 2,
        stack_timeout=timeout_s * 2,
        tcp_options=_TCP_OPTIONS,
        client_properties={"product": "jobrunner", "version": __version__, "connection_name": f"jobrunner {role}"},
        **options,
    )
