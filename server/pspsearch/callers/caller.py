"""Who calls, on whatever wire the call came."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as the wire tells. None of it has been checked yet."""

    peer: str
    """The other end of the connection."""
    host: str
    """The peer without the connection's port."""
    token: str = ""
    """Empty if the call carries none."""
    certificate: str = ""
    """The first name in the certificate that the connection was opened with; empty if there was none."""
