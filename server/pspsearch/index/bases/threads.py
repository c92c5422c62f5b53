"""How much of the machine building takes."""

from collections.abc import Generator
from contextlib import contextmanager

import faiss


@contextmanager
def one_thread() -> Generator[None]:
    """Inside, FAISS and its BLAS do what the calling thread asks of them in that thread alone.

    Other threads are free to use more: OpenMP keeps the number for each calling thread.
    """
    usual = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(usual)
