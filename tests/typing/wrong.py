"""Calls that a type checker refuses: each line that says `wrong` in its comment. Nothing here is run."""

from jobrunner import Client, job


@job
def add(a: int, b: int = 0) -> int:
    return a + b


@job(queue="media")
async def fetch(url: str) -> bytes:
    return url.encode()


def use(client: Client) -> None:
    add("1")  # wrong
    add.delay("1")  # wrong
    add.delay()  # wrong
    add.delay(1, c=2)  # wrong
    add.enqueue(1, 2, 3)  # wrong
    add.call(None)  # wrong
    add.options(que="x")  # wrong
    add.options(retries="x").delay(1)  # wrong
    add.options(queue="x").delay("1")  # wrong
    fetch.delay(b"x")  # wrong
    text: str = add.delay(1).result()  # wrong
    text = fetch.delay("x").result()  # wrong
    client.enqueue(add, "1")  # wrong
    client.enqueue(fetch)  # wrong
    client.enqueue(42)  # wrong
    client.wait([client.enqueue(add, 1)], until="never")  # wrong
    add.delay(1)
    print(text)
