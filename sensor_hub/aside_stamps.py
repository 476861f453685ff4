"""Times in the names of files put aside: in the order in which that was done, also when the clock goes back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_FORM = "%Y%m%dT%H%M%S.%fZ"
_LAST_YEAR = 9000  # whatever is called later than that was not named by a clock


def stamp_after(stamps: Iterable[str], now: datetime) -> str:
    """Now, or just after the latest of those that are there: the newest file sorts last."""
    moment = now.astimezone(UTC)
    for each in stamps:
        found = _time_of(each)
        if found is not None and moment <= found:
            moment = found + timedelta(microseconds=1)
    # Not strftime's %Y, which writes no zeros before a short year.
    return f"{moment.year:04}{moment:%m%dT%H%M%S.%f}Z"


def _time_of(stamp: str) -> datetime | None:
    try:
        found = datetime.strptime(stamp, _FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
    return found if found.year < _LAST_YEAR else None
