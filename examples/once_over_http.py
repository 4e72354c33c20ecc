"""A job that may run twice and charges once: the server is told which request is the same as before.

`jobrunner worker --app once_over_http`, then `jobrunner enqueue once_over_http:charge https://pay.example/charges 500`.
"""

import json
import urllib.error
import urllib.request

from jobrunner import Permanent, context, job


@job(retries=8, backoff="2s..5m", timeout="1m")
def charge(url: str, cents: int) -> str:
    """Charges a card and gives the number of the charge. For any API that takes an `Idempotency-Key`."""
    request = urllib.request.Request(  # noqa: S310 - whoever enqueues is trusted here
        url,
        data=json.dumps({"cents": cents}).encode(),
        headers={
            "Content-Type": "application/json",
            # the same in every run and every attempt of this job, and in no other job
            "Idempotency-Key": context.idempotency_key,
        },
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return str(json.load(answer)["id"])
    except urllib.error.HTTPError as exc:
        if exc.code in (400, 402, 422):
            raise Permanent(f"the server refuses it: {exc.code}") from exc  # a second try would be refused as well
        raise  # 5xx, or no answer: was it charged or not? The next attempt asks with the same key
