"""Every error that pspsearch raises on purpose, grouped by what the caller should do.

PspsearchError
|-- InvalidRequest            fix the request
|   `-- BadImage
|       |-- EmptyImage
|       |-- UnknownFormat
|       |-- DamagedImage
|       `-- ImageTooLarge
|-- ModelMismatch             ask for a model version that is there
|-- RetryLater                the same request may succeed later
|   |-- Overloaded
|   |-- TritonUnavailable
|   `-- DeadlineExceeded
`-- OperatorError             somebody has to change the set-up
    |-- BundleMissing
    |-- PortTaken
    |-- TritonFailed
    |-- ModelLoadFailed
    |-- RepositoryError
    |   `-- DigestMismatch
    `-- BrokenModel

The message of each is one sentence for the person who reads it. A bug is an assertion, not a class here.
"""


class PspsearchError(Exception):
    """The root: catch it to handle whatever pspsearch reports."""


class InvalidRequest(PspsearchError):
    """The request itself is wrong and will stay so."""


class BadImage(InvalidRequest):
    """The bytes cannot be turned into pixels."""


class EmptyImage(BadImage):
    """There are no bytes."""


class UnknownFormat(BadImage):
    """The content is none of the formats that are read."""


class DamagedImage(BadImage):
    """The content starts like a known format and then is truncated or corrupt."""


class ImageTooLarge(BadImage):
    """More bytes or more pixels than the caps allow; nothing was decoded."""


class ModelMismatch(PspsearchError):
    """The model, its version or its contract is not what the caller asked for."""


class RetryLater(PspsearchError):
    """Nothing is wrong with the request."""


class Overloaded(RetryLater):
    """A bounded queue is full."""


class TritonUnavailable(RetryLater):
    """Triton cannot be reached, or went away while it worked."""


class DeadlineExceeded(RetryLater):
    """The caller's deadline passed before there was an answer."""


class OperatorError(PspsearchError):
    """The set-up is wrong: no request can mend it."""


class BundleMissing(OperatorError):
    """No Triton address was given and no bundled Triton is installed."""


class PortTaken(OperatorError):
    """The wanted port belongs to somebody else."""


class TritonFailed(OperatorError):
    """The bundled Triton did not come up."""


class ModelLoadFailed(OperatorError):
    """Triton refused a model; the message holds Triton's own reason."""


class RepositoryError(OperatorError):
    """The model repository is incomplete or contradicts itself; the message names the file."""


class DigestMismatch(RepositoryError):
    """A file of a model version is not the one that was published."""


class BrokenModel(OperatorError):
    """A model answers with something that is not a unit descriptor of the promised dimension."""
