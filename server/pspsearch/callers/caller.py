"""Who calls, whatever wire the call came on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as the wire tells. Nothing of it is checked yet."""

    peer: str
    """The other end of the connection."""
    host: str
    """The peer without the connection's port."""
    token: str = ""
    """Empty where the call carries none."""
    certificate: str = ""
    """The first name in the certificate that the connection was opened with; empty where there was none."""
