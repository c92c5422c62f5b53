"""The versions of a model that the repository offers."""

from collections.abc import Awaitable, Callable, Sequence

from pspsearch.domain import OfferedVersion
from pspsearch.errors import ModelMismatch
from pspsearch.live.collections import OpenDescriber, check_model_name
from pspsearch.ports import Describer

Look = Callable[[str], Awaitable[Sequence[OfferedVersion]]]
"""Looks into the model repository for the versions of a model. Those that can be used are then ready to describe."""


class Offers:
    """Looks into the repository for each question."""

    def __init__(self, look: Look, open_describer: OpenDescriber) -> None:
        self._look = look
        self._open_describer = open_describer

    async def look(self, model: str) -> Sequence[OfferedVersion]:
        """Looks into the repository and returns the versions of a model."""
        check_model_name(model)
        return await self._look(model)

    async def open(self, model: str, version: int | None) -> Describer:
        """Opens the describer of a version, or of the highest usable one for None.

        Raises ModelMismatch if there is none.
        """
        offered = {one.version: one for one in await self.look(model)}
        usable = [number for number, one in offered.items() if not one.reason]
        chosen = max(usable, default=None) if version is None else version
        if chosen is None or chosen not in offered:
            wanted = "version that can be used" if version is None else f"version {version}"
            raise ModelMismatch(f"the model repository has no {wanted} of {model}")
        if offered[chosen].reason:
            raise ModelMismatch(f"{model}/{chosen} cannot be used: {offered[chosen].reason}")
        return await self._open_describer(model, chosen)
