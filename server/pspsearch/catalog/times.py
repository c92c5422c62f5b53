"""Converts between datetimes and the microseconds that the catalog stores."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """The time of the machine's clock."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """The moment in microseconds since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The moment in UTC, from microseconds since 1970."""
    return _EPOCH + us * _MICROSECOND
