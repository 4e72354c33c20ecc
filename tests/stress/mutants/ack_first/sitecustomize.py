"""Mutant: a delivery is acked before what follows from its run is published."""

import sys

if "worker" in sys.orig_argv:
    from jobrunner.worker.settling import Settler

    publish = Settler.publish

    def publish_after_ack(self, run, messages):  # type: ignore[no-untyped-def]
        self._ack(run.delivery)
        run.delivery.channel.connection._flush()  # on the wire before the publish, not only in the buffer
        publish(self, run, messages)

    Settler.publish = publish_after_ack  # type: ignore[method-assign]
