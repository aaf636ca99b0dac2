"""pycuda beside cuda-python: a ``GPUArray`` in, logits out, in one primary context. Part of ``gpu.py``.

    python benchmarks/gpu_pycuda.py GRAPH.onnx GOLDEN.npz

The trial is a process of its own, since pycuda makes the primary context current when it is imported. Where pycuda is
not installed, it can be built from its source, ``--pycuda FOLDER-OR-SDIST``, where nvcc is; nothing is downloaded, so
that what it imports (pytools, platformdirs, mako) must be there.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class LeftOutError(Exception):
    """pycuda cannot be tried here."""


def start_build(source: Path | None, folder: Path) -> "subprocess.Popen[bytes] | None":
    """Begin to build pycuda into a folder, which takes some two minutes; None where it is installed.

    Raises:
        LeftOutError: it is not installed, and cannot be built here.
    """
    if find_spec("pycuda") is not None:
        return None
    nvcc = shutil.which("nvcc")
    if source is None:
        raise LeftOutError("not run: pycuda is not installed; name its source with --pycuda to build it where nvcc is")
    if nvcc is None:
        raise LeftOutError("not run: pycuda is not installed, and there is no nvcc to build it with")
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [*(sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation"),
         *("--target", str(folder), str(source))],
        env=make_environment(Path(nvcc), folder),
        stdout=(folder / "build.txt").open("wb"),
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def make_environment(nvcc: Path, folder: Path) -> dict[str, str]:
    """Variables for the build: the toolkit of nvcc, and cuRAND as PyTorch's wheels bring it."""
    toolkit = find_toolkit(nvcc)
    libraries = folder / "libraries"
    libraries.mkdir(exist_ok=True)
    includes = [toolkit / "include"]
    for header in find_in_wheels("curand.h"):
        includes.append(header.parent)
        for library in sorted(header.parent.parent.glob("lib/libcurand.so*"))[:1]:
            link(libraries / "libcurand.so", library)
    for library in sorted(Path("/usr/lib").glob("*/libcuda.so*"))[:1]:
        link(libraries / "libcuda.so", library)
    # pycuda looks for the toolkit where the first nvcc of PATH is.
    paths = {
        "PATH": [toolkit / "bin"],
        "CPLUS_INCLUDE_PATH": includes,
        "LIBRARY_PATH": [libraries, toolkit / "lib64", toolkit / "lib64" / "stubs"],
    }
    joined = {
        name: os.pathsep.join([*map(str, found), *filter(None, [os.environ.get(name)])])
        for name, found in paths.items()
    }
    return os.environ | joined | {"CUDA_ROOT": str(toolkit)}


def find_toolkit(nvcc: Path) -> Path:
    """The folder of the toolkit, which ``nvcc`` may only point to."""
    said = subprocess.run([str(nvcc), "-v", "--dryrun", "x.cu"], capture_output=True, text=True, check=False).stderr
    tops = [line.partition("=")[2].strip() for line in said.splitlines() if line.startswith("#$ TOP=")]
    return Path(tops[0]).resolve() if tops else nvcc.resolve().parents[1]


def find_in_wheels(name: str) -> list[Path]:
    """Headers of a name that pip installed with NVIDIA's libraries."""
    return sorted(
        path
        for entry in sys.path
        if (Path(entry) / "nvidia").is_dir()
        for path in Path(entry).glob(f"nvidia/*/include/{name}")
    )


def find_libraries() -> str:
    """Folders for the loader: those of cuRAND in wheels, which it does not look into by itself."""
    found = [str(header.parent.parent / "lib") for header in find_in_wheels("curand.h")]
    return os.pathsep.join([*found, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])


def link(target: Path, library: Path) -> None:
    """A link to a library, where there is none yet."""
    if not target.exists():
        target.symlink_to(library)


def run_trial(
    building: "subprocess.Popen[bytes] | None", folder: Path, graph: Path, golden: Path, seconds: float
) -> dict[str, object]:
    """What the trial found, after waiting for the build.

    Raises:
        LeftOutError: the build failed, or the trial, or either takes too long.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        if building is not None:
            paths.append(str(folder))
            if building.wait(timeout=seconds) != 0:
                why = find_reason((folder / "build.txt").read_text(errors="replace"))
                raise LeftOutError(f"not run: pycuda was not built: {why}")
        done = subprocess.run(
            [sys.executable, __file__, str(graph), str(golden)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "LD_LIBRARY_PATH": find_libraries()},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        if building is not None:
            building.kill()
        raise LeftOutError(f"not run: it takes longer than the {seconds:.0f} s that are left") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise LeftOutError(f"not run: {lines[-1][:200]}")
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def find_reason(log: str) -> str:
    """The line of a build's log that says why it failed: the first of a compiler or linker, or else the last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or [""]
    of_compiler = [line for line in lines if "fatal error:" in line or ": cannot find" in line or ": error:" in line]
    return (of_compiler or lines[-1:])[0][:200]


def try_arrays(graph: Path, golden: Path) -> dict[str, object]:
    """Logits of a ``GPUArray`` beside those of the same pictures in host memory, and whose context is current."""
    import numpy as np
    import pycuda
    import pycuda.autoprimaryctx
    import pycuda.gpuarray

    from engines.loading import load_engine
    from engines.memory import check, load_runtime

    with np.load(golden) as stored:
        pictures, logits = np.ascontiguousarray(stored["images"]), stored["logits"].reshape(-1)
    engine: Any = load_engine(graph, device="cuda", runtime="fused")
    array = pycuda.gpuarray.to_gpu(pictures)
    found = engine.logits(array)
    from_host = engine.logits(pictures)
    # The array lies where cuda-python sees it too, and is as it was.
    runtime = load_runtime()
    attributes = check(runtime, runtime.cudaPointerGetAttributes(int(array.gpudata)), "asking where the array lies")
    np.testing.assert_array_equal(array.get(), pictures)
    engine.close()
    return {
        "pycuda": pycuda.VERSION_TEXT,
        "engine": engine.name,
        "golden": float(np.abs(found - logits).max()),
        "from_host": float(np.abs(found - from_host).max()),
        "device": int(attributes.device),
    }


if __name__ == "__main__":
    print(json.dumps(try_arrays(Path(sys.argv[1]), Path(sys.argv[2]))))
