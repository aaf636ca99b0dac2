"""What a ceiling is measured with: large matrix products and copies of memory, by one library in one process.

Products count two operations a multiply-add. Copies count the bytes that are read and those that are written.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lfm_deploy.benchmark.roofline import BANDWIDTH
from lfm_deploy.errors import UnavailableError
from lfm_deploy.machine import find_instruction_sets

# Rows, inner, columns: a large square, one that stays in the caches of a core, and the shape of the published model's
# last 2x2 convolution at batch 8. Which is fastest depends on the processor and the precision.
_CPU_SHAPES = ((2048, 2048, 2048), (1024, 1024, 1024), (7200, 1024, 512))
_GPU_SHAPES = ((8192, 8192, 8192), (28800, 1024, 512))
# Far larger than any cache, so that memory is what is measured.
_CPU_COPY_BYTES = 256 << 20
_GPU_COPY_BYTES = 2 << 30
_GPU_RUNS_AT_A_TIME = 10
# Some milliseconds.
_TILE_TIMES = 20_000
# For a quick look, on a CPU: these fill the processor too, if not quite as well.
_QUICK_SHAPES = ((1024, 1024, 1024),)
_QUICK_COPY_BYTES = 64 << 20

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to time.

    Attributes:
        kind: precision of the arithmetic, or ``"bandwidth"``.
        what: shape of the product, or size of the copy.
        amount: number of operations or bytes of one run.
        run: function that does it once, and returns when it is done.
    """

    kind: str
    what: str
    amount: float
    run: Callable[[], object]


def open_products(opening: dict[str, Any]) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """A worker's job: time products and copies of one library.

    Args:
        opening: plain values: ``library``, ``device``, ``threads``, and whether a ``quick`` look will do.

    Raises:
        UnavailableError: the library cannot use the device.
    """
    library, device, threads = opening["library"], opening["device"], opening["threads"]
    shapes, copied = (_QUICK_SHAPES, _QUICK_COPY_BYTES) if opening["quick"] else (_CPU_SHAPES, _CPU_COPY_BYTES)
    make: dict[str, Callable[[], list[Case]]] = {
        "numpy": lambda: _numpy_cases(shapes, copied, threads),
        "torch": lambda: _torch_cases(shapes, threads) if device == "cpu" else _cuda_cases(device),
        "onnxruntime": lambda: _onnxruntime_cases(shapes, threads),
        "amx": lambda: _tile_cases(threads),
    }
    cases = make[library]()

    def measure(request: dict[str, Any]) -> dict[str, Any]:
        return {"rates": [[case.kind, case.what, time_case(case, request["seconds"])] for case in cases]}

    return {"library": _name_of(library)}, measure


def time_case(case: Case, seconds: float) -> float:
    """Operations or bytes per second, after one run that is not timed.

    Args:
        case: product or copy to time.
        seconds: least time of all runs together, in seconds.
    """
    case.run()
    runs, elapsed, started = 0, 0.0, time.perf_counter()
    while elapsed < seconds:
        case.run()
        runs += 1
        elapsed = time.perf_counter() - started
    return case.amount * runs / elapsed


def _numpy_cases(shapes: Sequence[Shape], copied: int, threads: int) -> list[Case]:
    rng = np.random.default_rng(0)
    cases = []
    for rows, inner, columns in shapes:
        a = rng.random((rows, inner), dtype=np.float32)
        b = rng.random((inner, columns), dtype=np.float32)
        out = np.empty((rows, columns), dtype=np.float32)
        cases.append(_product("fp32", (rows, inner, columns), partial(np.matmul, a, b, out=out)))
    source = np.ones(copied // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    pool = ThreadPoolExecutor(threads)  # NumPy copies without holding the interpreter's lock

    def copy() -> None:
        list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

    size = f"copy of {copied >> 20} MiB"
    return [*cases, Case(kind=BANDWIDTH, what=size, amount=2.0 * copied, run=copy)]


def _torch_cases(shapes: Sequence[Shape], threads: int) -> list[Case]:
    import torch

    torch.set_num_threads(threads)
    types = {"fp32": torch.float32}
    if {"avx512_bf16", "amx_bf16"} & set(find_instruction_sets()):
        types["bf16"] = torch.bfloat16
    cases = []
    for kind, dtype in types.items():
        for shape in shapes:
            rows, inner, columns = shape
            a, b = torch.rand(rows, inner).to(dtype), torch.rand(inner, columns).to(dtype)
            out = torch.empty(rows, columns, dtype=dtype)
            cases.append(_product(kind, shape, partial(torch.mm, a, b, out=out)))
    return cases


def _onnxruntime_cases(shapes: Sequence[Shape], threads: int) -> list[Case]:
    """Graphs of one product each, with a constant right side, as the weights of an engine are."""
    import onnxruntime

    rng = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    cases = []
    for shape in shapes:
        rows, inner, columns = shape
        for kind, left, right in (
            ("fp32", rng.random((rows, inner), dtype=np.float32), rng.random((inner, columns), dtype=np.float32)),
            ("int8", rng.integers(0, 256, (rows, inner), np.uint8), rng.integers(-127, 128, (inner, columns), np.int8)),
        ):
            session = onnxruntime.InferenceSession(
                make_product(left, right), options, providers=["CPUExecutionProvider"]
            )
            cases.append(_product(kind, shape, partial(session.run, None, {"left": left})))
    return cases


def make_product(left: Any, right: Any) -> bytes:
    """An ONNX file of one node: ``left`` times a constant; MatMul, or MatMulInteger for integers.

    Args:
        left: float32 or uint8 ``(rows, inner)``; its shape and dtype count alone.
        right: float32 or int8 ``(inner, columns)``, the constant.
    """
    from onnx import TensorProto, helper, numpy_helper

    floating = right.dtype == np.float32
    types = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    graph = helper.make_graph(
        [helper.make_node("MatMul" if floating else "MatMulInteger", ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", types[str(left.dtype)], left.shape)],
        [
            helper.make_tensor_value_info(
                "product", TensorProto.FLOAT if floating else TensorProto.INT32, (left.shape[0], right.shape[1])
            )
        ],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def _tile_cases(threads: int) -> list[Case]:
    """Products of tiles that stay in the registers of a CPU's matrix units, on all cores."""
    from engines.amx.peak import multiply_tiles
    from engines.amx.units import request_tiles

    if not request_tiles():
        raise UnavailableError("ceilings of AMX: not measured: the system gives no tile registers")
    pool = ThreadPoolExecutor(threads)

    def run(kind: str) -> float:
        return sum(pool.map(partial(multiply_tiles, kind), [_TILE_TIMES] * threads))

    return [
        Case(kind=kind, what="tiles in registers", amount=run(kind), run=partial(run, kind))
        for kind in ("bf16", "int8")
    ]


def _cuda_cases(device: str) -> list[Case]:
    """Products and copies on a GPU, launched several at a time so that launching is not what is timed."""
    import torch

    if not torch.cuda.is_available():
        raise UnavailableError("ceilings of the GPU: not measured: PyTorch has no CUDA device here")

    def repeated(step: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(_GPU_RUNS_AT_A_TIME):
                step()
            torch.cuda.synchronize(device)

        return run

    cases = []
    for shape in _GPU_SHAPES:
        rows, inner, columns = shape
        for kind, dtype in (("fp16", torch.float16), ("fp32", torch.float32)):
            a = torch.rand(rows, inner, device=device, dtype=dtype)
            b = torch.rand(inner, columns, device=device, dtype=dtype)
            out = torch.empty(rows, columns, device=device, dtype=dtype)
            step = repeated(partial(torch.mm, a, b, out=out))
            cases.append(_product(kind, shape, step, _GPU_RUNS_AT_A_TIME))
        left = torch.randint(-127, 128, (rows, inner), device=device, dtype=torch.int8)
        right = torch.randint(-127, 128, (columns, inner), device=device, dtype=torch.int8).t()
        with contextlib.suppress(RuntimeError):  # not on every GPU; INT8 engines then say that no ceiling was measured
            torch._int_mm(left, right)
            step = repeated(partial(torch._int_mm, left, right))
            cases.append(_product("int8", shape, step, _GPU_RUNS_AT_A_TIME))
    source = torch.ones(_GPU_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    amount = 2.0 * _GPU_COPY_BYTES * _GPU_RUNS_AT_A_TIME
    size = f"copy of {_GPU_COPY_BYTES >> 20} MiB"
    return [*cases, Case(kind=BANDWIDTH, what=size, amount=amount, run=repeated(partial(target.copy_, source)))]


def _product(kind: str, shape: Shape, run: Callable[[], object], runs: int = 1) -> Case:
    rows, inner, columns = shape
    return Case(kind=kind, what=f"{rows}x{inner}x{columns}", amount=2.0 * rows * inner * columns * runs, run=run)


def _name_of(library: str) -> str:
    """A library with the BLAS that it brings."""
    if library == "torch":
        import torch

        blas = (
            "cuBLAS" if torch.cuda.is_available() else "MKL" if "BLAS_INFO=mkl" in torch.__config__.show() else "BLAS"
        )
        return f"PyTorch ({blas})"
    if library == "amx":
        return "kernels for AMX"
    if library == "onnxruntime":
        return "ONNX Runtime (MLAS)"
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    return f"NumPy ({'OpenBLAS' if 'openblas' in blas else blas})"
