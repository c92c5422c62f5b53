"""The part of FAISS 1.15 that is used here: FAISS's own stub is wrong about fp16 codes and graphs, and wants torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

METRIC_INNER_PRODUCT: int
IO_FLAG_SKIP_STORAGE: int

class SwigPointer:
    def disown(self) -> None: ...

class IDSelector: ...

class IDSelectorBitmap(IDSelector):
    def __init__(self, bitmap: NDArray[np.uint8]) -> None: ...

class SearchParameters:
    def __init__(self, *, sel: IDSelector | None = None) -> None: ...

class SearchParametersIVF(SearchParameters):
    def __init__(self, *, nprobe: int, sel: IDSelector | None = None) -> None: ...

class SearchParametersHNSW(SearchParameters):
    def __init__(self, *, efSearch: int, sel: IDSelector | None = None) -> None: ...

class Index:
    d: int
    ntotal: int
    this: SwigPointer
    def train(self, x: NDArray[np.float32]) -> None: ...
    def add(self, x: NDArray[np.float32]) -> None: ...
    def reconstruct_n(self, n0: int, ni: int) -> NDArray[np.float32]: ...
    def add_sa_codes(self, codes: NDArray[np.uint8]) -> None: ...
    def search(
        self, x: NDArray[np.float32], k: int, *, params: SearchParameters | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...

class IndexFlatIP(Index):
    def __init__(self, d: int) -> None: ...

class ScalarQuantizer:
    QT_fp16: int
    def __init__(self, d: int, qtype: int) -> None: ...
    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]: ...

class MaybeOwnedVectorUInt8:
    is_owned: bool
    view_data: SwigPointer
    view_size: int
    c_ptr: SwigPointer
    c_size: int

class IndexScalarQuantizer(Index):
    codes: MaybeOwnedVectorUInt8
    def __init__(self, d: int, qtype: int, metric: int) -> None: ...

class HNSW:
    efConstruction: int

class IndexHNSWSQ(Index):
    hnsw: HNSW
    storage: Index
    own_fields: bool
    def __init__(self, d: int, qtype: int, M: int, metric: int) -> None: ...

class IndexHNSWFlat(Index):
    hnsw: HNSW
    storage: Index
    def __init__(self, d: int, M: int, metric: int) -> None: ...

class IndexIVFPQ(Index):
    def __init__(self, quantizer: Index, d: int, nlist: int, M: int, nbits: int, metric: int) -> None: ...

class IndexIVFPQFastScan(Index):
    by_residual: bool
    quantizer: Index
    def __init__(self, quantizer: Index, d: int, nlist: int, M: int, nbits: int, metric: int) -> None: ...
    def search_preassigned_c(
        self,
        n: int,
        x: SwigPointer,
        k: int,
        assign: SwigPointer,
        centroid_dis: SwigPointer,
        distances: SwigPointer,
        labels: SwigPointer,
        store_pairs: bool,
        params: SearchParametersIVF,
    ) -> None: ...

class ClusteringParameters:
    niter: int
    spherical: bool
    seed: int
    min_points_per_centroid: int
    max_points_per_centroid: int

class Clustering:
    def __init__(self, d: int, k: int, cp: ClusteringParameters) -> None: ...
    def train(self, x: NDArray[np.float32], index: Index) -> None: ...

# Only in a build for GPUs.
class StandardGpuResources:
    def setTempMemory(self, size: int) -> None: ...

class GpuIndexFlatConfig:
    useFloat16: bool

class GpuIndexFlatIP(Index):
    def __init__(self, provider: StandardGpuResources, dims: int, config: GpuIndexFlatConfig) -> None: ...

class GpuClonerOptions:
    useFloat16: bool

def index_cpu_to_gpu(provider: StandardGpuResources, device: int, index: Index, options: GpuClonerOptions) -> Index: ...
def index_gpu_to_cpu(index: Index) -> Index: ...
def get_num_gpus() -> int: ...
def swig_ptr(a: NDArray[Any]) -> SwigPointer: ...
def clone_index(index: Index) -> Index: ...
def downcast_index(index: Index) -> Index: ...
def write_index(index: Index, fname: str, io_flags: int = 0) -> None: ...
def read_index(fname: str, io_flags: int = 0) -> Index: ...
def omp_set_num_threads(num_threads: int) -> None: ...
def omp_get_max_threads() -> int: ...
def knn(
    xq: NDArray[np.float32], xb: NDArray[np.float32], k: int, metric: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
