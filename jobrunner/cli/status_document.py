"""The status as `--json` shows it."""

from typing import Any

from jobrunner.cli.queues_pause import pause_document
from jobrunner.cli.shared import Shared
from jobrunner.cli.status_facts import Facts


def document(facts: Facts, shared: Shared) -> dict[str, Any]:
    """As `--json` shows it."""
    settings = shared.settings
    return {
        "broker": {
            "url": settings.url.masked,
            "product": facts.product,
            "version": facts.version,
            "profile": settings.profile,
        },
        "queues": [
            {
                "name": row.name,
                "type": row.type,
                "ready": row.ready,
                "running": row.counts.running,
                "later": row.counts.later,
                "dead": row.counts.dead,
                "consumers": row.consumers,
                "oldest_s": row.oldest_s(facts.now),
                "in_per_s": row.counts.in_per_s,
                "out_per_s": row.counts.out_per_s,
                "paused": pause_document(row.paused),
            }
            for row in facts.queues
        ],
        "workers": {
            "expected": facts.expected,
            "answered": None if facts.replies is None else len(facts.replies),
            "slots": sum(reply.slots for reply in facts.replies or ()),
            "busy": sum(reply.busy for reply in facts.replies or ()),
        },
        "problems": [
            {"level": each.level, "code": each.code, "text": each.text, "fix": each.fix or None}
            for each in facts.problems
        ],
        "view": {"behind_s": facts.behind_s},
    }
