"""An environment for each rival, with the newest versions at the time of the measurement."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(".bench/rivals")
_NUMPY = "numpy==2.4.6"
_VISION = (_NUMPY, "opencv-python-headless==5.0.0.93")
_WEB = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0")
_OPENVINO = "openvino==2026.4.1"
REQUIREMENTS = {
    "fastapi": (*_VISION, *_WEB, _OPENVINO, "usearch==2.26.6"),
    "litserve": (*_VISION, *_WEB, "python-multipart==0.0.34", _OPENVINO, "litserve==0.2.19", "faiss-cpu==1.15.1"),
    "ray": (*_VISION, _OPENVINO, "ray[serve]==2.60.0", "faiss-cpu==1.15.1"),
    "milvus": (*_VISION, *_WEB, "tritonclient[grpc]==2.73.0", "pymilvus==3.0.2", "milvus-lite==3.2.2"),
    "hnswlib": (_NUMPY, *_WEB, "hnswlib==0.8.0"),  # from source, so it needs a C++ compiler
    "lancedb": (_NUMPY, *_WEB, "lancedb==0.40.0"),
}


def python_of(name: str) -> Path:
    """The environment's interpreter; the first call makes the environment."""
    environment = FOLDER / name
    python = environment / "bin" / "python"
    done = environment / "done"
    if not done.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)], check=True)
        install = [*uv, "pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS[name]]
        subprocess.run(install, check=True)
        done.touch()
    return python.absolute()
