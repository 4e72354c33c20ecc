"""Mutant: a retry carries the headers with which its job came, `x-death` among them."""

import sys

if "worker" in sys.orig_argv:
    from jobrunner.broker import message
    from jobrunner.worker import settlement

    publish, plan = message.properties_of, settlement.plan
    received = {}  # type: ignore[var-annotated]

    def plan_and_remember(run, worker, now):  # type: ignore[no-untyped-def]
        received[run.envelope.job.id] = dict(run.delivery.headers)
        return plan(run, worker, now)

    def properties_with_all(sent, url):  # type: ignore[no-untyped-def]
        properties = publish(sent, url)
        if sent.type == "jobrunner.job":
            properties.headers = received.get(sent.message_id, {}) | (properties.headers or {})
        return properties

    settlement.plan = plan_and_remember
    from jobrunner.broker import confirms

    confirms.properties_of = properties_with_all
