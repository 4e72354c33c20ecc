from jobrunner.broker.unavailable import AGAIN_S, FIRST_S, LARGEST_S, Unavailable

QUEUES = ("a", "b", "c")


def test_all_queues_are_consumed_until_the_broker_fails_at_one() -> None:
    found = Unavailable()
    assert found.of(QUEUES, 0.0) == (QUEUES, None)
    assert found.suspect("b", 1, 0.0) == FIRST_S
    assert found.of(QUEUES, 0.25) == (["a", "c"], FIRST_S - 0.25)
    assert found.of(("a",), 0.25) == (["a"], None)
    assert found.of(QUEUES, FIRST_S) == (["a", "b", "c"], None)


def test_a_queue_that_another_slot_consumes_on_the_same_connection_is_not_suspected() -> None:
    found = Unavailable()
    found.works("a", 1)
    assert found.suspect("a", 1, 0.0) is None
    assert found.suspect("a", 2, 0.0) == FIRST_S


def test_it_is_left_out_shortly_then_for_longer_each_time_and_shortly_again_once_it_has_worked() -> None:
    found, now = Unavailable(), 0.0
    waits = []
    for epoch in range(1, 8):
        wait_s = found.suspect("a", epoch, now)
        assert wait_s is not None
        assert found.suspect("a", epoch, now) is None  # the other slots of that connection
        waits.append(wait_s)
        now += wait_s
    assert waits == sorted(waits)
    assert (*waits[:2], waits[-1]) == (FIRST_S, AGAIN_S, LARGEST_S)
    found.works("a", 8)
    assert found.suspect("a", 9, now) == FIRST_S
