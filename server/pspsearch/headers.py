"""The headers of a call that client and server agree on."""

import re

REQUEST_ID = "x-request-id"
"""Names the call in logs and errors; the server chooses it if it is missing."""

CALLER_ID = "x-caller-id"
"""Names the caller among others at the same address."""

AUTHORIZATION = "authorization"
"""Carries a token, as `Bearer TOKEN`."""

_SANE = re.compile(r"[\x21-\x7e]{1,64}")


def is_sane(value: str) -> bool:
    """Whether the value is fit to be sent and to be written into a log."""
    return _SANE.fullmatch(value) is not None
