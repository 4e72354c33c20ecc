"""Publishes as a program that knows nothing of jobrunner."""

import pika

from tests.support.eventually import eventually

PATIENCE_S = 60.0


def publish(
    url: str, key: str, body: bytes, properties: pika.BasicProperties | None = None, exchange: str = ""
) -> None:
    """Until the broker has confirmed it. The queue may not have been made yet, or may elect its leader just now."""

    def confirmed() -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            try:
                channel.basic_publish(exchange, key, body, properties, mandatory=True)
            except (pika.exceptions.UnroutableError, pika.exceptions.NackError) as exc:
                raise AssertionError(f"the broker does not take it: {exc!r}") from exc

    eventually(confirmed, PATIENCE_S, 0.1)
