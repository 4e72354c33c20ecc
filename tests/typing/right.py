"""How programs use the API. A type checker agrees with each line; nothing here is run."""

from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from typing import Any, assert_type

from jobrunner import (
    AsyncClient,
    AsyncGroup,
    AsyncJobHandle,
    Call,
    Client,
    Group,
    JobHandle,
    JobrunnerExecutor,
    call,
    job,
)


@job
def add(a: int, b: int = 0) -> int:
    return a + b


@job(queue="media", retries=5, timeout="5m")
def resize(path: str, /, width: int, *, sharp: bool = False) -> dict[str, int]:
    return {path: width if sharp else 0}


@job
async def fetch(url: str) -> bytes:
    return url.encode()


@job(retries=0)
async def check(url: str) -> bool:
    return bool(url)


def plain(text: str) -> float:
    return float(text)


async def plain_async(text: str) -> float:
    return float(text)


def marked() -> None:
    assert_type(add(1, b=2), int)
    assert_type(fetch("x"), Coroutine[Any, Any, bytes]).close()
    assert_type(add.delay(1), JobHandle[int])
    assert_type(add.enqueue(1, b=2).result(timeout="5m"), int)
    assert_type(resize.delay("a.jpg", 800, sharp=True).result(), dict[str, int])
    assert_type(fetch.delay("x").result(), bytes)
    assert_type(check.delay("x").result(), bool)
    assert_type(resize.call("a.jpg", width=8), Call[dict[str, int]])
    assert_type(resize.options(queue="slow", retries=3, delay=1.5).delay("a.jpg", 8), JobHandle[dict[str, int]])
    assert_type(list(add.map([1, 2], [3, 4], ordered=False)), list[int])
    assert_type(list(fetch.map(["x"])), list[bytes])
    name: str = add.__name__
    print(name)


def synchronous() -> None:
    with Client(run="nightly") as client:
        assert_type(client.enqueue(add, 1, b=2), JobHandle[int])
        assert_type(client.enqueue(fetch, "x").result(), bytes)
        assert_type(client.enqueue(plain, "1").result(), float)
        assert_type(client.enqueue(plain_async, "1").result(), float)
        assert_type(client.enqueue(add.call(1)), JobHandle[int])
        assert_type(client.enqueue("tasks:add", 1, b=2), JobHandle[Any])
        assert_type(client.enqueue(["gzip", "-9"]), JobHandle[Any])
        assert_type(client.options(queue="video", tags=["a"]), Client)
        assert_type(client.enqueue_many(add.call(n) for n in range(9)), int)
        client.enqueue_many([add.call(1)], on_queued=lambda handle: print(handle.result() + 1))
        client.enqueue_many([add.call(1), call("other:thing", "x")])
        assert_type(next(client.map(add, [1, 2])), int)
        assert_type(next(client.map(fetch, ["x"])), bytes)
        handles = [client.enqueue(add, n) for n in range(9)]
        done, waiting = client.wait(handles, timeout=5, until="failure")
        assert_type(done, list[JobHandle[int]])
        assert_type(waiting, list[JobHandle[int]])
        assert_type([handle.result() for handle in client.as_completed(handles)], list[int])
        assert_type(client.status(handles[0].id).state, str)


def executor() -> None:
    with JobrunnerExecutor() as pool:
        assert_type(pool.submit(add, 1, b=2), Future[int])
        assert_type(pool.submit(plain, "1").result(), float)


async def asynchronous(urls: AsyncIterator[str]) -> None:
    async with AsyncClient() as client:
        handle = await client.enqueue(fetch, "x")
        assert_type(handle, AsyncJobHandle[bytes])
        assert_type(await handle, bytes)
        assert_type(await handle.result(timeout=5), bytes)
        assert_type(await client.enqueue(add, 1), AsyncJobHandle[int])
        assert_type([one async for one in client.map(fetch, urls)], list[bytes])
        assert_type([one async for one in client.map(add, [1], [2])], list[int])
        done, _ = await client.wait([handle], until="first")
        assert_type(done, list[AsyncJobHandle[bytes]])
        assert_type(await client.options(priority="high").enqueue_many(add.call(n) for n in range(9)), int)


def groups() -> None:
    with Client() as client, client.group("nightly") as group:
        assert_type(group, Group)
        assert_type(group.enqueue(add, 1, b=2), JobHandle[int])
        assert_type(group.enqueue(fetch, "x"), JobHandle[bytes])
        assert_type(group.then(check.call("x"), when="end"), JobHandle[bool])
        assert_type(group.results("5m"), list[Any])


async def asynchronous_groups() -> None:
    async with AsyncClient() as client, client.group(resume=True) as group:
        assert_type(group, AsyncGroup)
        assert_type(await group.enqueue(add, 1, b=2), AsyncJobHandle[int])
        assert_type(await (await group.then(fetch.call("x"))), bytes)
        async for handle in group.as_completed():
            assert_type(handle, AsyncJobHandle[Any])
