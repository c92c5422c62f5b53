"""The Triton that comes with `pip install 'pspsearch[cpu]'`: finds its parts and puts them together."""

import importlib.util
import os
import shutil
import site
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pspsearch.errors import BundleMissing
from pspsearch.triton import uncached


@dataclass(frozen=True, slots=True)
class Bundle:
    """The parts of the Triton server inside the `nvidia-pytriton` distribution."""

    server: Path
    libraries: Path
    python_backend: Path
    python_stub: Path
    python_library: Path
    """The folder of this Python's shared library, which the Python stub needs."""

    @classmethod
    def find(cls) -> Self:
        """Finds the bundle among the installed packages, without importing it. Raises BundleMissing."""
        spec = importlib.util.find_spec("pytriton")
        if spec is None or spec.origin is None:
            raise BundleMissing(
                "no Triton address was given and the bundled Triton is not installed: "
                "name a running Triton with --triton, or pip install 'pspsearch[cpu]'"
            )
        package = Path(spec.origin).parent
        root = package / "tritonserver"
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        bundle = cls(
            server=root / "bin" / "tritonserver",
            libraries=package.parent / "nvidia_pytriton.libs",
            python_backend=root / "backends" / "python",
            python_stub=root / "python_backend_stubs" / python / "triton_python_backend_stub",
            python_library=_python_library_folder(),
        )
        for path in (bundle.server, bundle.libraries, bundle.python_backend, bundle.python_stub):
            if not path.exists():
                raise BundleMissing(f"the bundled Triton has no {path}: this Python {python} may be too new for it")
        return bundle

    def assemble_backends(self, folder: Path) -> Path:
        """Makes a backend directory in `folder`, with this Python's stub beside the Python backend, and returns it."""
        target = folder / "backends" / "python"
        target.mkdir(parents=True)
        for part in (*self.python_backend.iterdir(), self.python_stub):
            (target / part.name).symlink_to(part)
        return target.parent


def assemble_python(folder: Path, repository: Path) -> Path:
    """Makes a `python3` for the stub and returns its folder: this Python with its packages.

    It is what `python -m venv` would make, plus one line that Python runs before any program. That line makes Python
    compile the sources in the repository afresh (see `uncached.py`).
    """
    home = folder / "python"
    packages = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    programs = home / "bin"
    for part in (packages, programs):
        part.mkdir(parents=True)
    (programs / "python3").symlink_to(sys.executable)
    interpreter = Path(os.path.realpath(sys.executable))
    (home / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n", "utf-8")
    shutil.copyfile(uncached.__file__, packages / "pspsearch_uncached.py")
    folders = "; ".join(f"site.addsitedir({path!a})" for path in site.getsitepackages())
    line = f"import site, pspsearch_uncached; pspsearch_uncached.read_sources_only({str(repository)!a}); {folders}\n"
    (packages / "pspsearch.pth").write_text(line, "ascii")
    return programs


def _python_library_folder() -> Path:
    """The folder of libpython: beside this Python if it was built shared, else the system's. Raises BundleMissing."""
    folder = Path(str(sysconfig.get_config_var("LIBDIR")))
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    for candidate in (folder, folder / str(sysconfig.get_config_var("MULTIARCH"))):
        if (candidate / name).exists():
            return candidate
    raise BundleMissing(
        f"the bundled Triton needs {name}, and this Python has none in {folder}: "
        f"on Debian and Ubuntu, apt-get install {name.partition('.so')[0]}"
    )
