"""Drives CMake: configures against the installed torch, builds, and installs the libraries into the package."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def package_dir(name: str) -> Path:
    """Where a package is installed, without importing it: importing torch takes seconds."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(
            f"visionops: building needs {name} in this Python. Either `pip install {name}` first and build with "
            "`pip install --no-build-isolation .`, or build with isolation: `pip install .`"
        )
    return Path(spec.origin).parent


def builds_for_cuda(torch: Path) -> bool:
    """Whether to build the CUDA library: as VISIONOPS_CUDA says, else where torch is a CUDA build and nvcc is there."""
    wanted = os.environ.get("VISIONOPS_CUDA")
    if wanted is not None:
        return wanted == "1"
    version = re.search(r"^cuda\b.*= *'", (torch / "version.py").read_text(), re.MULTILINE)
    return version is not None and shutil.which("nvcc") is not None


class CMakeBuild(build_ext):
    """One CMake project instead of setuptools' extensions."""

    def run(self) -> None:
        """Configure, build and install into the build tree, or into the sources for an editable install."""
        torch = package_dir("torch")
        options = os.environ.get("VISIONOPS_CMAKE_OPTIONS", "").split()
        if builds_for_cuda(torch):
            options.append("-DVISIONOPS_CUDA=ON")
        # Another torch, another Python or other options must not reuse each other's objects; the names under which pip
        # and make call one Python must.
        key = hashlib.sha1(repr((str(torch), sys.prefix, options)).encode()).hexdigest()[:12]
        build = ROOT / "build" / f"cmake-{key}"
        prefix = ROOT if self.inplace else Path(self.build_lib).resolve()
        # A build environment's cmake and ninja stand beside its Python, on the PATH or not.
        env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        configure = [
            *("cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DVISIONOPS_TORCH={torch}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={package_dir('pybind11') / 'share/cmake/pybind11'}",
            *options,
        ]
        subprocess.run(configure, check=True, env=env)
        subprocess.run(["cmake", "--build", str(build)], check=True, env=env)
        subprocess.run(["cmake", "--install", str(build), "--prefix", str(prefix)], check=True, env=env)
        if emulation := os.environ.get("VISIONOPS_EMULATION"):
            subprocess.run(["cmake", "--build", str(build), "--target", "visionops_emulated"], check=True, env=env)
            install = ["cmake", "--install", str(build), "--component", "emulation"]
            subprocess.run([*install, "--prefix", str(Path(emulation).parent)], check=True, env=env)

    def get_outputs(self) -> list[str]:
        """Nothing that setuptools would have compiled."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing to copy back: an editable build installs in place."""
        return {}


# The one extension names what CMake builds; setuptools tags the wheel for this platform and Python because of it.
setup(ext_modules=[Extension("visionops.numpy._kernels", sources=[])], cmdclass={"build_ext": CMakeBuild})
