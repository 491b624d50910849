"""The library that makes a CPU build of torch take "cuda" for a device: built once, and loaded before torch.

torch asks whether CUDA is there when it is imported, and once. So a process in which torch has been imported cannot pretend any more, and this module
imports nothing of torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")

COMPILER = os.environ.get("CXX") or "g++"


def why_not() -> str:
    """Why no device can be pretended here; "" if one can."""
    if shutil.which(COMPILER) is None:
        return f"the pretended device needs the C++ compiler {COMPILER}, which is not installed"
    if (_torch() / "lib" / "libtorch_cuda.so").exists():
        return "torch is a CUDA build here, whose own device cannot be replaced"
    return ""


def build(folder: Path) -> Path:
    """The library, in `folder`; it is kept there for this source and this torch.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    identity = SOURCE.read_bytes() + importlib.metadata.version("torch").encode()
    path = folder / f"guard-{hashlib.sha256(identity).hexdigest()[:16]}.so"
    if path.exists():
        return path
    torch, made = _torch(), path.with_suffix(f".{os.getpid()}")
    options = ["-std=c++20", "-O0", "-fPIC", "-shared", f"-I{torch / 'include'}", f"-L{torch / 'lib'}"]
    subprocess.run([COMPILER, *options, SOURCE, "-o", made, "-lc10", "-ltorch_cpu"], check=True)
    made.replace(path)  # several test processes may build it at once
    return path


def load(path: Path) -> None:
    """Load the library, and the libraries of torch that it registers itself with, into this process."""
    libraries = _torch() / "lib"
    for name in ("libgomp", "libc10", "libtorch_cpu"):
        for found in sorted(libraries.glob(f"{name}*.so*"))[:1]:
            ctypes.CDLL(str(found), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _torch() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
