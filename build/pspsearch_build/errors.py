"""The errors of making a model version; like the server's, each message is one sentence for a person."""

from pspsearch.errors import OperatorError


class BuildError(OperatorError):
    """A step on the way from weights to a model version cannot be done as asked."""


class WeightsMismatch(BuildError):
    """A weights file does not fit the network that was asked for."""


class ParityError(BuildError):
    """Two forms of the same network answer differently by more than the bounds."""


class PublishRefused(BuildError):
    """A version that would break the repository, or those who use it, is not written."""
