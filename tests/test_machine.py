import os
import re

import pytest

from lfm_deploy.machine import (
    _cpu_quota,
    allowed_cores,
    count_cores,
    describe_gpus,
    describe_machine,
    find_instruction_sets,
    gpu_memory_mib,
    has_amx,
    has_bfloat16,
    limit_cores,
    parse_gpus,
    peak_memory_mib,
)

# As nvidia-smi prints --format=csv,noheader, in the order of the fields that are asked for.
TWO_GPUS = (
    "NVIDIA RTX A6000, 550.54.15, 49140 MiB, 1800 MHz, 2100 MHz, 8001 MHz, 8001 MHz, 300.00 W, Enabled\n"
    "NVIDIA L4, 550.54.15, 23034 MiB, 210 MHz, 2040 MHz, 405 MHz, 6251 MHz, 72.00 W, Disabled\n"
)


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an nvidia-smi that prints a text on the path."""

    def install(text, code=0):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    return install


def test_the_processor_and_memory_are_those_of_this_machine():
    found = describe_machine()
    assert found["processor"]
    assert found["cores_allowed"] == len(os.sched_getaffinity(0)) <= found["cores"]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["memory_gib"] == pytest.approx(pages / 2**30, rel=0.01)  # the kernel keeps some for itself


def test_a_process_may_leave_cores_to_others(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    with limit_cores(3):
        assert (count_cores(), allowed_cores()) == (3, 8)
        with limit_cores(5):
            assert count_cores() == 3
    with limit_cores(100):
        assert count_cores() == 8
    assert count_cores() == 8


def test_instruction_sets_of_x86_and_arm():
    x86 = "model name\t: x\nflags\t\t: fpu avx2 fma avx512f avx512_vnni amx_int8 avx2x\nflags\t\t: fpu\n"
    assert find_instruction_sets(x86) == ["avx2", "fma", "avx512f", "avx512_vnni", "amx_int8"]
    assert find_instruction_sets("Features\t: asimd asimddp i8mm\n") == ["asimd", "asimddp", "i8mm"]
    assert find_instruction_sets("") == []
    assert not has_bfloat16(x86)  # AMX for integers alone
    assert has_bfloat16("flags\t: avx512_bf16\n")
    assert has_bfloat16("flags\t: amx_tile amx_bf16\n")
    assert has_amx("flags\t: amx_tile amx_int8 amx_bf16\n")
    assert not has_amx("flags\t: amx_tile amx_bf16\n")
    assert not has_bfloat16("Features\t: asimd bf16\n")  # of Arm, which OpenVINO does not use


def test_quotas_of_control_groups():
    assert _cpu_quota("150000 100000\n") == 1.5
    assert _cpu_quota("max 100000\n") is None
    assert _cpu_quota("") is None


def test_gpus_have_their_clocks_and_driver(smi):
    first, second = parse_gpus(TWO_GPUS)
    assert (first["name"], first["driver_version"], first["clocks.sm"]) == ("NVIDIA RTX A6000", "550.54.15", "1800 MHz")
    assert (second["clocks.max.sm"], second["power.limit"]) == ("2040 MHz", "72.00 W")
    smi(TWO_GPUS.strip())
    assert describe_gpus() == [first, second]


def test_without_a_gpu_there_is_a_reason(smi, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_gpus() == "not available: no nvidia-smi"
    assert gpu_memory_mib(1) is None
    smi("NVIDIA-SMI has failed", 9)
    assert describe_gpus() == "not available: NVIDIA-SMI has failed"


def test_gpu_memory_is_that_of_the_process(smi):
    smi("71, 300\n7, 1234\n7, 6")
    assert gpu_memory_mib(7) == 1240
    assert gpu_memory_mib(8) is None


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory_mib()
    held = bytearray(os.urandom(1)) * (64 << 20)
    after = peak_memory_mib()
    assert re.fullmatch(r"\d+", str(len(held)))
    assert after >= before
    assert after >= 64
