"""Mutant: nothing is published as mandatory, so that what no queue takes is confirmed all the same."""

import sys

if "worker" in sys.orig_argv:
    from pika import frame, spec

    from jobrunner.broker import amqp
    from jobrunner.broker.amqp import AmqpChannel

    publish = AmqpChannel.basic_publish

    def publish_whatever(self, exchange, key, body, properties=None, mandatory=False):  # type: ignore[no-untyped-def]
        publish(self, exchange, key, body, properties, mandatory=False)

    def frame_of_whatever(channel_number, exchange, key):  # type: ignore[no-untyped-def]
        return frame.Method(channel_number, spec.Basic.Publish(exchange=exchange, routing_key=key)).marshal()

    AmqpChannel.basic_publish = publish_whatever  # type: ignore[method-assign]
    amqp._publish_frame = frame_of_whatever  # type: ignore[assignment]
