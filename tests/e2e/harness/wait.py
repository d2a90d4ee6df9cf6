"""Waiting for a state, with a deadline: the only kind of waiting these tests do."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Short against every deadline here, long enough not to take the cores from what is waited for.
POLL_SECONDS = 0.05


class NotReached(AssertionError):
    """The awaited state did not come before the deadline."""


def until(
    what: str,
    look: Callable[[], T],
    *,
    deadline: float = 15.0,
    also: Callable[[], str] | None = None,
) -> T:
    """Calls `look` until it returns something true, and returns that.

    An `AssertionError` or `OSError` from `look` counts as "not yet". On failure the message names
    `what`, the last value or error, and what `also` says (a log, a status).
    """
    end = time.monotonic() + deadline
    while True:
        try:
            value = look()
            if value:
                return value
            last = f"last seen: {value!r}"
        except (AssertionError, OSError) as error:
            last = f"last seen: {type(error).__name__}: {error}"
        if time.monotonic() >= end:
            context = f"\n{also()}" if also else ""
            raise NotReached(f"not within {deadline:g} s: {what}\n{last}{context}")
        time.sleep(POLL_SECONDS)
