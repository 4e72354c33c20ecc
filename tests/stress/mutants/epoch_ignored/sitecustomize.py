"""Mutant: a tag of a lost channel is acked on the channel that took its place, where it is another job's."""

import sys

if "worker" in sys.orig_argv:
    from jobrunner.broker.consumer import SlotConsumer

    def settle(self, delivery):  # type: ignore[no-untyped-def]
        delivery.settled = True
        return self._channel is not None and self._channel.usable

    SlotConsumer._settle = settle  # type: ignore[method-assign]
