"""Limits how much of the machine a build takes."""

from collections.abc import Generator
from contextlib import contextmanager

import faiss


@contextmanager
def one_thread() -> Generator[None]:
    """Makes FAISS and its BLAS work in the calling thread alone for the length of the block.

    Other threads may still use more, because OpenMP keeps the number for each calling thread.
    """
    usual = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(usual)
