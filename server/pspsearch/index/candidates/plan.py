"""The plan of a base: the choices made before anything is built."""

import math
from dataclasses import asdict, dataclass

POINTS_PER_LIST = 39
"""FAISS says that fewer training rows per centroid make poor centroids."""

GRAPH_BYTES = 160
"""The links of one centre in the graph over the centres."""


def ideal_lists(rows: int) -> int:
    """Returns the best number of lists: about four times the square root of the rows, as a power of two.

    It is never more than the rows can train. A base with fewer lists finds less at the same price, so the rows have
    outgrown it.
    """
    by_cost = round(math.log2(4 * math.sqrt(rows)))
    by_training = math.floor(math.log2(rows / POINTS_PER_LIST))
    return 1 << min(by_cost, by_training)


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """Every row is scored, on the CPU."""

    dimension: int
    most_rows: int | None
    """With more rows another plan is better; None if exactness was asked for by name."""

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to this many rows, rather than planned anew."""
        return self.most_rows is None or rows <= self.most_rows

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True, slots=True)
class IvfPlan:
    """Inverted lists of 4-bit product codes on the CPU. The best candidates are scored exactly."""

    dimension: int
    lists: int
    subdimension: int
    """The dimensions of each sub-quantiser; zeros pad the last one."""
    training_rows: int
    graph: bool = False
    """Whether a graph finds the nearest lists. Bases of earlier releases have none, and were tuned without."""

    @property
    def subquantisers(self) -> int:
        """The number of 4-bit codes per row."""
        return math.ceil(self.dimension / self.subdimension)

    @property
    def padded_dimension(self) -> int:
        """The dimension including the zeros."""
        return self.subquantisers * self.subdimension

    @property
    def code_bytes(self) -> int:
        """Bytes of codes per row."""
        return math.ceil(self.subquantisers / 2)

    def size_bytes(self, rows: int) -> int:
        """Returns the size in memory: codes in blocks of 32, row numbers, and centres twice, perhaps with a graph.

        Each list leaves half of one block empty on average.
        """
        codes = (rows + 16 * self.lists) * self.code_bytes
        return codes + 8 * rows + self.lists * (2 * 4 * self.padded_dimension + self.graph * GRAPH_BYTES)

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to this many rows, rather than planned anew."""
        return ideal_lists(rows) == self.lists

    def __str__(self) -> str:
        return f"IVF of {self.lists} lists, {self.subquantisers} sub-quantisers of 4 bits, refined exactly"


@dataclass(frozen=True, slots=True)
class HnswPlan:
    """A graph over the stored descriptors, on the CPU."""

    dimension: int
    most_rows: int
    """How many rows fit into the memory."""
    links: int = 32
    """The links of each row on the upper levels. The lowest level has twice as many."""

    @property
    def row_bytes(self) -> int:
        """Bytes per row: the links of the lowest level, a few of the upper levels, and the level itself."""
        return 8 * self.links + 16

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to this many rows, rather than planned anew."""
        return rows <= self.most_rows

    def __str__(self) -> str:
        return f"HNSW with {self.links} links"


@dataclass(frozen=True, slots=True)
class GpuFlatPlan:
    """Every row is scored in fp16 on a GPU. The best are scored again exactly."""

    dimension: int
    most_rows: int
    """How many rows the GPU can hold, or scan in time."""

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to this many rows, rather than planned anew."""
        return rows <= self.most_rows

    def __str__(self) -> str:
        return "flat fp16 on a GPU, refined exactly"


@dataclass(frozen=True, slots=True)
class GpuIvfPlan:
    """Inverted lists of 8-bit product codes on a GPU. The best candidates are scored exactly."""

    dimension: int
    lists: int
    subquantisers: int
    training_rows: int

    def fits(self, rows: int) -> bool:
        """Whether a base of this plan should be extended to this many rows, rather than planned anew."""
        return ideal_lists(rows) == self.lists

    def __str__(self) -> str:
        return f"IVF of {self.lists} lists, {self.subquantisers} sub-quantisers of 8 bits on a GPU, refined exactly"


Plan = ExactPlan | IvfPlan | HnswPlan | GpuFlatPlan | GpuIvfPlan
"""What to build. As text it is what users see."""

STRUCTURES: dict[str, type[Plan]] = {
    "exact": ExactPlan,
    "ivf": IvfPlan,
    "hnsw": HnswPlan,
    "gpu-flat": GpuFlatPlan,
    "gpu-ivf": GpuIvfPlan,
}
"""The names of the plans on disk."""


def encode_plan(plan: Plan) -> dict[str, object]:
    """Returns the plan as a JSON object."""
    name = next(name for name, structure in STRUCTURES.items() if isinstance(plan, structure))
    return {"structure": name, **asdict(plan)}


def decode_plan(encoded: dict[str, int | None]) -> Plan:
    """Reads what `encode_plan` made. Raises KeyError or TypeError for anything else."""
    fields = dict(encoded)
    return STRUCTURES[str(fields.pop("structure"))](**fields)  # pyright: ignore[reportArgumentType]
