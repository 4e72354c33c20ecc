"""Mutant: nothing is published as mandatory, so that what no queue takes is confirmed all the same."""

import sys

if "worker" in sys.orig_argv:
    from jobrunner.broker.amqp import AmqpChannel

    publish = AmqpChannel.basic_publish

    def publish_whatever(self, exchange, key, body, properties=None, mandatory=False):  # type: ignore[no-untyped-def]
        publish(self, exchange, key, body, properties, mandatory=False)

    AmqpChannel.basic_publish = publish_whatever  # type: ignore[method-assign]
