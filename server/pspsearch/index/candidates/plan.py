"""What a base is to be: the choices that are made before anything is built."""

import math
from dataclasses import asdict, dataclass

POINTS_PER_LIST = 39
"""Fewer training rows per centroid than that make poor ones, says FAISS."""


def ideal_lists(rows: int) -> int:
    """About four times the square root of the rows, a power of two, and no more than the rows can train.

    A base that has fewer finds less at the same price: it is outgrown.
    """
    by_cost = round(math.log2(4 * math.sqrt(rows)))
    by_training = math.floor(math.log2(rows / POINTS_PER_LIST))
    return 1 << min(by_cost, by_training)


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """Every row is scored, on the CPU."""

    dimension: int
    most_rows: int | None
    """Beyond which another plan is better; None where exactness was asked for by name."""

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to so many rows, rather than planned anew."""
        return self.most_rows is None or rows <= self.most_rows

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True, slots=True)
class IvfPlan:
    """Inverted lists of 4-bit product codes on the CPU; the best candidates are scored exactly."""

    dimension: int
    lists: int
    subdimension: int
    """Of each sub-quantiser; zeros fill the last one up."""
    training_rows: int

    @property
    def subquantisers(self) -> int:
        """Per row, 4 bits each."""
        return math.ceil(self.dimension / self.subdimension)

    @property
    def padded_dimension(self) -> int:
        """The dimension with the zeros."""
        return self.subquantisers * self.subdimension

    @property
    def code_bytes(self) -> int:
        """Per row."""
        return math.ceil(self.subquantisers / 2)

    def size_bytes(self, rows: int) -> int:
        """In memory: codes in blocks of 32, of which each list leaves one half empty, row numbers, centroids."""
        return (rows + 16 * self.lists) * self.code_bytes + 8 * rows + 4 * self.lists * self.padded_dimension

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to so many rows, rather than planned anew."""
        return ideal_lists(rows) == self.lists

    def __str__(self) -> str:
        return f"IVF of {self.lists} lists, {self.subquantisers} sub-quantisers of 4 bits, refined exactly"


@dataclass(frozen=True, slots=True)
class HnswPlan:
    """A graph over the stored descriptors, on the CPU."""

    dimension: int
    most_rows: int
    """That memory holds."""
    links: int = 32
    """Of each row on the upper levels, and half of those on the lowest one."""

    @property
    def row_bytes(self) -> int:
        """In memory: the links of the lowest level, a few of the upper ones, and the level itself."""
        return 8 * self.links + 16

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to so many rows, rather than planned anew."""
        return rows <= self.most_rows

    def __str__(self) -> str:
        return f"HNSW with {self.links} links"


@dataclass(frozen=True, slots=True)
class GpuFlatPlan:
    """Every row is scored in fp16 on a GPU; the best are scored again exactly."""

    dimension: int
    most_rows: int
    """That the GPU holds, or scans in time."""

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to so many rows, rather than planned anew."""
        return rows <= self.most_rows

    def __str__(self) -> str:
        return "flat fp16 on a GPU, refined exactly"


@dataclass(frozen=True, slots=True)
class GpuIvfPlan:
    """Inverted lists of 8-bit product codes on a GPU; the best candidates are scored exactly."""

    dimension: int
    lists: int
    subquantisers: int
    training_rows: int

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to so many rows, rather than planned anew."""
        return ideal_lists(rows) == self.lists

    def __str__(self) -> str:
        return f"IVF of {self.lists} lists, {self.subquantisers} sub-quantisers of 8 bits on a GPU, refined exactly"


Plan = ExactPlan | IvfPlan | HnswPlan | GpuFlatPlan | GpuIvfPlan
"""What to build; as text, what users see."""

STRUCTURES: dict[str, type[Plan]] = {
    "exact": ExactPlan,
    "ivf": IvfPlan,
    "hnsw": HnswPlan,
    "gpu-flat": GpuFlatPlan,
    "gpu-ivf": GpuIvfPlan,
}
"""The names of the plans on disk."""


def encode_plan(plan: Plan) -> dict[str, object]:
    """The plan as a JSON object."""
    name = next(name for name, structure in STRUCTURES.items() if isinstance(plan, structure))
    return {"structure": name, **asdict(plan)}


def decode_plan(encoded: dict[str, int | None]) -> Plan:
    """What `encode_plan` made; KeyError or TypeError where it is something else."""
    fields = dict(encoded)
    return STRUCTURES[str(fields.pop("structure"))](**fields)  # pyright: ignore[reportArgumentType]
