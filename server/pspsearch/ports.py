"""What the search half needs from the outside, as protocols; adapters and fakes fill them."""

from typing import Protocol

from pspsearch.domain import Descriptors, ModelVersion, Pixels


class Describer(Protocol):
    """Turns pixels into descriptors, always with the same model version."""

    @property
    def version(self) -> ModelVersion:
        """The version that every answer comes from."""
        ...

    async def describe(self, pixels: Pixels, *, timeout_s: float | None = None) -> Descriptors:
        """One unit row per image of `pixels` (count x height x width x 3), in their order.

        The whole call takes at most `timeout_s`; cancelling it cancels the work that waits in Triton. Raises
        InvalidRequest for pixels of another shape than the contract's, Overloaded, DeadlineExceeded or
        TritonUnavailable for what may pass, BrokenModel where the model breaks its promise.
        """
        ...
