"""Checks whether FAISS is installed, and finds the GPU that it should use."""

from pspsearch.config import IndexSettings
from pspsearch.findings import Finding, Grade


def examine_faiss(settings: IndexSettings) -> Finding:
    """Examines FAISS, which is imported only here because it may not be installed."""
    try:
        import faiss
    except ImportError:
        words = "no FAISS is installed: pip install 'pspsearch[cpu]', or 'pspsearch[gpu]'"
        return Finding("FAISS", Grade.BAD, words)
    gpus = faiss.get_num_gpus()
    if settings.device == "gpu" and not gpus:
        words = "device is gpu, and FAISS finds none: pip install 'pspsearch[gpu]' where there is one, or device = auto"
        return Finding("FAISS", Grade.BAD, words)
    return Finding("FAISS", Grade.GOOD, f"there, with {gpus or 'no'} GPU")
