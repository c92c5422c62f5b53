"""The errors of building a model version. Like the server's, each message is one sentence for a person."""

from pspsearch.errors import OperatorError


class BuildError(OperatorError):
    """A step from weights to a model version cannot be done as asked."""


class WeightsMismatch(BuildError):
    """A weights file does not fit the network."""


class ParityError(BuildError):
    """Two forms of the same network differ by more than the bounds allow."""


class PublishRefused(BuildError):
    """The version would break the repository or those who use it, so it is not written."""
