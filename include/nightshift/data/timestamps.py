"""Times of raw rows: ISO 8601, or seconds, milli-, micro- or nanoseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from nightshift.data.quarantine import Reason, Unusable

# A zone as RFC 3339 allows it in small letters, as BigQuery writes it, and an offset behind a time and a space.
ZONE = re.compile(r"\s?(?:z|utc|gmt)$|(?<!^.{8})(?<!^.{10})\s(?=[+-]\d\d:?\d\d$)", re.IGNORECASE)
EPOCH = re.compile(r"\d{9,20}(?:\.\d{0,9})?")
# How many are a second, by the digits of a number since 1970, which differ from 2001 to 2286. Others are not guessed at.
A_SECOND = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}
WANTED = "a time as ISO 8601 writes it or seconds, milli-, micro- or nanoseconds since 1970"


def timestamp_of(value: Any) -> datetime | None:
    """Return the time that a value says, in UTC, which one without a zone is in; None where it says nothing.

    :raises Unusable: it is no time.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    value = _since_1970(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(ZONE.sub(lambda zone: zone[0].strip() and "Z", value.strip()))
        except ValueError:
            raise Unusable(
                Reason.BAD_TIMESTAMP,
                f"{_quoted(value)} is not {WANTED}",
            ) from None
    if not isinstance(value, datetime):
        raise Unusable(
            Reason.BAD_TIMESTAMP,
            f"{_quoted(str(value))} is {type(value).__name__}, wanted is {WANTED}",
        )
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise Unusable(Reason.BAD_TIMESTAMP, f"{value.isoformat()} lies outside of the calendar") from None


def _since_1970(value: Any) -> Any:
    """A number of seconds or parts of them since 1970, or the text of one, as a time; other values as they are."""
    if isinstance(value, str):
        if not EPOCH.fullmatch(value.strip()):
            return value
        number = float(value)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = float(value) if 0 < value < 1e19 else 0.0
    else:
        return value
    a_second = A_SECOND.get(len(str(int(number))))
    return value if a_second is None else datetime.fromtimestamp(number / a_second, UTC)


def _quoted(text: str) -> str:
    """A value as a person sees it in a reason: whole, because half of something personal is not recognised."""
    return repr(text) if len(text) <= 60 else f"a text of {len(text):,} characters"
