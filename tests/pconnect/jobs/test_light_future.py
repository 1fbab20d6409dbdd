"""The condition of a future: its lock, and waking waiting threads."""

import threading
import time

import pytest

from pconnect.jobs.light_future import LightCondition

LIMIT = 20.0


def test_all_waiting_threads_are_woken() -> None:
    condition = LightCondition()
    is_set = False
    woken: list[bool] = []

    def wait() -> None:
        with condition:
            while not is_set:
                assert condition.wait(LIMIT)
            woken.append(True)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    with condition:
        is_set = True
        condition.notify_all()
    for thread in threads:
        thread.join(LIMIT)
    assert woken == [True] * 3


def test_a_wait_ends_in_time_with_the_lock_held() -> None:
    condition = LightCondition()
    begin = time.monotonic()
    with condition, condition:  # the lock is reentrant
        assert not condition.wait(0.05)
        assert not _can_take(condition)
    assert time.monotonic() - begin >= 0.05
    assert _can_take(condition)


def test_waiting_without_the_lock_is_refused() -> None:
    with pytest.raises(RuntimeError, match="un-acquired lock"):
        LightCondition().wait(0)


def test_the_condition_works_without_waiters() -> None:
    condition = LightCondition()
    with condition:
        condition.notify_all()


def _can_take(condition: LightCondition) -> bool:
    """Return whether another thread can take the lock."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(condition.acquire(blocking=False))
        if taken[0]:
            condition.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(LIMIT)
    return taken[0]
