"""Every error that pspsearch raises on purpose, grouped by what the caller should do.

PspsearchError
|-- InvalidRequest            fix the request
|   |-- BadFilter
|   `-- BadImage
|       |-- EmptyImage
|       |-- UnknownFormat
|       |-- DamagedImage
|       `-- ImageTooLarge
|-- Unauthenticated           call with a good token
|-- Forbidden                 ask for the right to do it
|-- NotFound                  ask for something that is there
|-- AlreadyExists             choose another name
|-- ModelMismatch             ask for a model version that is there
|-- RolloutRefused            do something else first
|-- RetryLater                the same request may succeed later
|   |-- NotServing
|   |-- ModelChanged
|   |-- Overloaded
|   |   `-- RateExceeded
|   |-- MemoryFull
|   |-- StorageFull
|   |-- StorageReadOnly
|   |-- IndexBehind
|   |-- TritonUnavailable
|   `-- DeadlineExceeded
`-- OperatorError             somebody has to change the set-up
    |-- BadSettings
    |-- BundleMissing
    |-- PortTaken
    |-- TritonFailed
    |-- ModelLoadFailed
    |-- RepositoryError
    |   `-- DigestMismatch
    |-- VersionPolicyRefused
    |-- BrokenModel
    |-- IndexFailed
    `-- CatalogError
        |-- CatalogDamaged
        |-- DiskFailed
        `-- WriterFailed

The message of each is one sentence for the person who reads it. A bug is an assertion, not a class here.
"""

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class PspsearchError(Exception):
    """The root: catch it to handle whatever pspsearch reports."""

    request_id = ""
    """The failed call's name in the server's log, where a server told it."""


def bare(error: E) -> E:
    """To be kept as a value: without the frames that it came through.

    They have what they worked on, and with it the error again: in that circle a request would stay in memory until the
    garbage collector finds it.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


class InvalidRequest(PspsearchError):
    """The request itself is wrong and will stay so."""


class BadFilter(InvalidRequest):
    """The filter is no expression; the message names the position and what was expected there."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position
        """In characters from the start of the filter."""


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


class Unauthenticated(PspsearchError):
    """Nobody knows who calls: there is no token, or none that is good."""


class Forbidden(PspsearchError):
    """The caller is known, and may not do this."""


class NotFound(PspsearchError):
    """There is no collection, item or image of that name."""


class AlreadyExists(PspsearchError):
    """The name is taken."""


class ModelMismatch(PspsearchError):
    """The model, its version or its contract is not what the caller asked for."""


class RolloutRefused(PspsearchError):
    """The rollout is not where this could be done."""


class RetryLater(PspsearchError):
    """Nothing is wrong with the request."""


class NotServing(RetryLater):
    """The server is starting or stopping."""


class ModelChanged(RetryLater):
    """The collection's model version changed while the request was worked on; nothing was written."""


class Overloaded(RetryLater):
    """A bounded queue is full."""


class RateExceeded(Overloaded):
    """The caller calls more often than it may."""

    def __init__(self, message: str, wait_s: float = 1.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        """In the server: until it may call again."""


class MemoryFull(RetryLater):
    """The server has taken what memory it may; nothing was written."""


class StorageFull(RetryLater):
    """There is no room on the server's disk; nothing was written."""


class StorageReadOnly(RetryLater):
    """The server's disk takes no writes; nothing was written."""


class IndexBehind(RetryLater):
    """What was written is on disk, and searches do not find it yet; sent again, it is acknowledged when they do."""


class TritonUnavailable(RetryLater):
    """Triton cannot be reached, or went away while it worked."""


class DeadlineExceeded(RetryLater):
    """The caller's deadline passed before there was an answer."""


class OperatorError(PspsearchError):
    """The set-up is wrong: no request can mend it."""


class BadSettings(OperatorError):
    """A setting cannot be what it is set to; the message names where it was set."""


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


class VersionPolicyRefused(OperatorError):
    """Triton is set to stop serving the version that answers when another one comes."""


class BrokenModel(OperatorError):
    """A model answers with something that is not a unit descriptor of the promised dimension."""


class IndexFailed(OperatorError):
    """An index's folder cannot be used."""


class CatalogError(OperatorError):
    """The catalog cannot be opened, read or written; nothing was acknowledged."""


class CatalogDamaged(CatalogError):
    """What the catalog holds contradicts itself."""


class DiskFailed(CatalogError):
    """The disk did not take what was written to the catalog: what is on it is not known until it is read again."""


class WriterFailed(CatalogError):
    """Something that nobody foresaw happened while the catalog was written; what is on disk is good."""
