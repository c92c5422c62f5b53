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
|-- NoPicture                 ask about something whose picture is there
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
`-- OperatorError             somebody must change the set-up
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
    """The failed call's id in the server's log; empty unless a server told it."""


def bare(error: E) -> E:
    """Strips an error of its traceback and causes, so that it can be kept as a value; returns it.

    The frames refer to what they worked on, and that refers to the error again. This cycle would keep a request in
    memory until the garbage collector finds it.
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
        """Where the filter is wrong, in characters from its start."""


class BadImage(InvalidRequest):
    """The bytes cannot be turned into pixels."""


class EmptyImage(BadImage):
    """There are no bytes."""


class UnknownFormat(BadImage):
    """The content is in none of the formats that can be read."""


class DamagedImage(BadImage):
    """The content starts like a known format, but is truncated or corrupt."""


class ImageTooLarge(BadImage):
    """The image has more bytes or pixels than the limits allow, or does not fit into memory."""


class Unauthenticated(PspsearchError):
    """The caller is unknown: there is no token, or none that is good."""


class Forbidden(PspsearchError):
    """The caller is known, but may not do this."""


class NotFound(PspsearchError):
    """There is no collection, item or image of that name."""


class AlreadyExists(PspsearchError):
    """The name is taken."""


class ModelMismatch(PspsearchError):
    """The model, its version or its contract is not what the caller asked for."""


class NoPicture(PspsearchError):
    """What is asked about has no picture, or it was not kept."""


class RolloutRefused(PspsearchError):
    """The rollout is in a state that does not allow this."""


class RetryLater(PspsearchError):
    """Nothing is wrong with the request; it may succeed later."""


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
        """How long the caller must wait before the next call, in seconds; set in the server only."""


class MemoryFull(RetryLater):
    """The server has taken all the memory that it may; nothing was written."""


class StorageFull(RetryLater):
    """There is no room on the server's disk; nothing was written."""


class StorageReadOnly(RetryLater):
    """The server's disk takes no writes; nothing was written."""


class IndexBehind(RetryLater):
    """The write is on disk, but searches do not find it yet; sent again, it is acknowledged when they do."""


class TritonUnavailable(RetryLater):
    """Triton cannot be reached, or went away while it worked."""


class DeadlineExceeded(RetryLater):
    """The caller's deadline passed before there was an answer."""


class OperatorError(PspsearchError):
    """The set-up is wrong, and no request can repair it."""


class BadSettings(OperatorError):
    """A setting has a value that it cannot have; the message names where it was set."""


class BundleMissing(OperatorError):
    """No Triton address was given and no bundled Triton is installed."""


class PortTaken(OperatorError):
    """The wanted port is in use by another program."""


class TritonFailed(OperatorError):
    """The bundled Triton did not start."""


class ModelLoadFailed(OperatorError):
    """Triton refused a model; the message holds Triton's own reason."""


class RepositoryError(OperatorError):
    """The model repository is incomplete or contradicts itself; the message names the file."""


class DigestMismatch(RepositoryError):
    """A file of a model version is not the one that was published."""


class VersionPolicyRefused(OperatorError):
    """Triton is set to stop serving the version that answers when a new one comes."""


class BrokenModel(OperatorError):
    """A model answers with something that is not a unit descriptor of the promised dimension."""


class IndexFailed(OperatorError):
    """An index's folder cannot be used."""


class CatalogError(OperatorError):
    """The catalog cannot be opened, read or written; nothing was acknowledged."""


class CatalogDamaged(CatalogError):
    """What the catalog holds contradicts itself."""


class DiskFailed(CatalogError):
    """The disk did not take a write to the catalog; what the disk holds is unknown until it is read again."""


class WriterFailed(CatalogError):
    """An unforeseen error happened while the catalog was written; what is on disk is good."""
