"""The machine that a figure was measured on: processor, memory, GPU, and who else was busy."""

import csv
import os
import platform
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lfm_deploy.errors import UnavailableError

# The instruction sets that decide how fast matrix products are, by the names of /proc/cpuinfo (x86, then Arm).
_INSTRUCTION_SETS = (
    "avx2", "fma", "f16c", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
AMX = ("amx_tile", "amx_int8", "amx_bf16")
"""Instruction sets of a CPU's matrix units."""
_GPU_FIELDS = (
    "name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem",
    "power.limit", "persistence_mode",
)  # fmt: skip
_BUSY_SHARE = 0.25
_SMI_SECONDS = 20
_limits: list[int] = []


def describe_machine() -> dict[str, Any]:
    """Hardware as plain values; what cannot be told is None."""
    info = _text("/proc/cpuinfo")
    memory = re.search(r"MemTotal:\s+(\d+) kB", _text("/proc/meminfo"))
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    megahertz = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", info, re.MULTILINE)]
    return {
        "processor": read_processor(),
        "cores_allowed": count_cores(),
        "cores": os.cpu_count(),
        "cpu_quota": _cpu_quota(_text("/sys/fs/cgroup/cpu.max")),
        "instruction_sets": find_instruction_sets(info),
        "clock_mhz": max(megahertz, default=None),
        "governor": governor or None,
        "memory_gib": None if memory is None else int(memory[1]) / 2**20,
        "gpus": describe_gpus(),
    }


def count_cores() -> int:
    """Cores that this process takes: those that it may use, or fewer inside of ``limit_cores``."""
    return min([allowed_cores(), *_limits])


def allowed_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def limit_cores(count: int) -> Iterator[None]:
    """Take no more cores than so many while the block runs: other processes of the same job have the rest.

    Threads are counted by it; no core is bound, since nobody in one container knows which of them others have taken.

    Args:
        count: number of cores, from 1.
    """
    _limits.append(count)
    try:
        yield
    finally:
        _limits.pop()


def read_processor() -> str:
    """Name of the processor."""
    return _field(_text("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


def identify_processor() -> str:
    """Name, family, model and stepping: names of processors in the cloud are short."""
    info = _text("/proc/cpuinfo")
    parts = [_field(info, name) for name in ("model name", "cpu family", "model", "stepping")]
    return " ".join(part for part in parts if part) or platform.machine()


def find_instruction_sets(info: str | None = None) -> list[str]:
    """Those of this processor that matrix products depend on, from the text of ``/proc/cpuinfo``."""
    info = _text("/proc/cpuinfo") if info is None else info
    flags = set(_field(info, "flags").split() + _field(info, "Features").split())
    return [name for name in _INSTRUCTION_SETS if name in flags]


def has_bfloat16(info: str | None = None) -> bool:
    """Whether this processor multiplies bfloat16 in units of its own: AMX or AVX512-BF16.

    Libraries multiply it in float32 elsewhere, which is slower than float32 itself.

    Args:
        info: text of ``/proc/cpuinfo``; None reads it.
    """
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(find_instruction_sets(info))


def has_amx(info: str | None = None) -> bool:
    """Whether this processor has the matrix units that the kernels in ``engines.amx`` take, for bfloat16 and int8.

    Args:
        info: text of ``/proc/cpuinfo``; None reads it.
    """
    return set(AMX) <= set(find_instruction_sets(info))


def require_bfloat16() -> None:
    """Refuse BF16 where ``has_bfloat16`` is False.

    Raises:
        UnavailableError: the processor has no units for bfloat16.
    """
    if not has_bfloat16():
        raise UnavailableError("BF16: not run: this processor has neither AMX nor AVX512-BF16; use FP32 or INT8 here")


def describe_gpus() -> list[dict[str, str]] | str:
    """GPUs with clocks, limits and driver as ``nvidia-smi`` states them, or why that is not available."""
    try:
        finished = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SMI_SECONDS,
        )
    except FileNotFoundError:
        return "not available: no nvidia-smi"
    except subprocess.TimeoutExpired:
        return f"not available: nvidia-smi did not answer in {_SMI_SECONDS} s"
    if finished.returncode:
        said = (finished.stdout + finished.stderr).strip().splitlines() or ["it gave no reason"]
        return f"not available: {said[-1]}"
    return parse_gpus(finished.stdout)


def parse_gpus(text: str) -> list[dict[str, str]]:
    """The answer of ``nvidia-smi``: one line a GPU, one value a field."""
    rows = csv.reader(text.strip().splitlines(), skipinitialspace=True)
    return [dict(zip(_GPU_FIELDS, row, strict=True)) for row in rows]


def gpu_memory_mib(pid: int) -> float | None:
    """GPU memory of one process in MiB as ``nvidia-smi`` states it; None where it does not."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SMI_SECONDS,
        ).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    used = [re.fullmatch(rf"{pid}, *(\d+)", line.strip()) for line in answer.splitlines()]
    return sum(float(match[1]) for match in used if match) or None


def peak_memory_mib() -> float | None:
    """The most memory that this process has held, in MiB; None where the system does not say."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", _text("/proc/self/status"))
    return None if peak is None else int(peak[1]) / 1024


def describe_load() -> str | None:
    """A warning where other programs are busy on this machine; None where it is quiet."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < _BUSY_SHARE * cores:
        return None
    return f"the machine was busy before the measurement began: load {load:.1f} on {cores} cores"


def _cpu_quota(text: str) -> float | None:
    """Cores' worth of time that a control group allows; None without a limit."""
    limit = re.fullmatch(r"(\d+) (\d+)", text.strip())
    return None if limit is None else int(limit[1]) / int(limit[2])


def _field(info: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
    return "" if match is None else match[1].strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def require_address_space(least: int, what: str) -> None:
    """Make sure, before a library is loaded, that ``ulimit -v`` leaves enough for it.

    Args:
        least: number of bytes of address space that are needed.
        what: name of the library, for the message.

    Raises:
        UnavailableError: the limit is lower.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < least:
        raise UnavailableError(
            f"not enough memory: the limit on address space is {limit >> 20} MiB, and {what} is loaded with "
            f"{least >> 20} or more; raise it (ulimit -v)"
        )
