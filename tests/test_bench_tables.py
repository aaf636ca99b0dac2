import io

import pytest
from rich.console import Console

from lfm_deploy.report.bench_tables import print_bench


def point(batch, **values):
    return {
        "batch": batch, "not_run": None, "fps": 12345.678, "runs": 12, "mean_ms": 1234.5678, "p50_ms": 1234.5,
        "p90_ms": 1300.25, "p95_ms": 1400.125, "p99_ms": 1500.0625, "iqr_share": 0.1234, "rounds_share": 1.2345,
        "round_fps": [1.0], "phases": None, "bound_by": None, "peak_memory_mib": 12345.6, "gpu_memory_mib": None,
        "gpu_clocks": None, "no_roofline": None,
        "roofline": {
            "fps": 23456.7, "bound": "bandwidth", "share": 0.834, "layer_by_layer_fps": 11223.3,
            "ceiling_too_low": False,
        },
    } | values  # fmt: skip


def engine(name, points=(), **values):
    about = {"details": None} if points else None
    return {
        "name": name, "points": list(points), "about": about, "not_run": None, "failed": False,
        "arithmetic_reason": None, "files": None,
    } | values  # fmt: skip


GPU = {
    "name": "NVIDIA RTX A6000", "memory.total": "49140 MiB", "clocks.sm": "1800 MHz", "clocks.max.sm": "2100 MHz",
    "clocks.mem": "8001 MHz", "power.limit": "300.00 W", "driver_version": "550.54.15",
}  # fmt: skip
NO_ROOFLINE = {"roofline": None, "no_roofline": "no ceiling"}
PHASES = {"host_to_device_ms": 12.34, "compute_ms": 123.4, "device_to_host_ms": 0.1234, "enqueue_ms": 1.234}
FILES = {
    "not_run": None, "batch": 256, "fps": 1234.5, "engine_fps": 12345.6, "decoding_fps": 1300.2,
    "share_of_limit": 1.05, "bound_by": "decoding", "rounds_share": 0.123, "peak_memory_mib": 1234.5,
    "pictures": 1000, "skipped": 3,
}  # fmt: skip


@pytest.fixture
def report():
    return {
        "machine": {
            "processor": "AMD EPYC 9654 96-Core Processor with a long name", "cores_allowed": 2, "cores": 384,
            "cpu_quota": 1.5, "clock_mhz": 2445.4, "memory_gib": 754.3, "gpus": [GPU, GPU],
            "instruction_sets": ["avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"],
        },
        "settings": {
            "threads": 96, "rounds": 5, "seconds_per_point": 3.0, "fewest_runs_per_point": 10,
            "pictures": "tiles of photographs, 256x256, 32 PNG and 32 JPEG",
        },
        "environment": {"libraries": {f"library-{index}": "1.2.3" for index in range(8)}},
        "ceilings": {
            "cpu": {
                "fp32": {
                    "rate": 12345e9, "library": "ONNX Runtime (MLAS)", "measured_with": "2048x2048x2048",
                    "rounds": [11111e9, 13333e9], "others": {"NumPy (OpenBLAS)": 10e12, "PyTorch (MKL)": 9e12},
                },
                "int8": {
                    "rate": 990e9, "library": "ONNX Runtime (MLAS)", "measured_with": "2048x2048x2048",
                    "rounds": [980e9, 999e9], "others": {},
                },
                "bandwidth": {
                    "rate": 31.5e9, "library": "NumPy", "measured_with": "copy of 256 MiB", "rounds": [31e9, 32e9],
                    "others": {},
                },
            }
        },
        "engines": [
            engine("onnxruntime int8 tensorrt cuda:0", [point(1), point(4096)], files=FILES),
            engine("tensorrt-rtx fp16 sm120", [point(1, phases=PHASES, bound_by="enqueue", gpu_clocks=["1800 MHz"])]),
            engine("onnxruntime fp16", [point(1, **NO_ROOFLINE)], arithmetic_reason="float32"),
            engine("absent", not_run="no [CUDA] device"),
            engine("dead", not_run="its process ended", failed=True),
            engine("half", [{"batch": 8, "not_run": "killed"}]),
        ],
        "advice": ["cpu: openvino bf16 is the fastest at batch 8 " * 4],
        "notes": ["quick: not for quoting " * 9],
    }  # fmt: skip


def show(report, width=100):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    print_bench(report, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [100, 160])
def test_nothing_is_wider_than_100_columns_or_cut(report, width):
    text = show(report, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "…" not in text


def test_every_figure_is_there(report):
    text = " ".join(show(report).split())
    for part in (
        "2 of 384 cores, limited to 1.5 cores' time, 2445 MHz, 754 GiB",
        "avx512_vnni",
        "NVIDIA RTX A6000, 49140 MiB, SM 1800 MHz of 2100 MHz",
        "driver 550.54.15",
        "96 threads, 5 interleaved rounds, at least 3 s and 10 runs a point",
        "12345 GFLOP/s",
        "990 GOP/s",
        "32 GB/s",
        "NumPy 10000, PyTorch 9000",
        "12346 23457 83 % bandwidth 11223 12.3 123.4 12 12346",
        "1235 1234 1300 1400 * 1500 *",
        "12.34 123.4 0.1234 1.234 enqueue 1800 MHz",
        "256 1234 12346 1300 105 % decoding 12.3 1234",
        "3 of 1000 files could not be judged",
        "onnxruntime fp16: float32, and is held against that ceiling",
    ):
        assert part in text


def test_a_share_of_more_than_the_machine_can_do_is_not_shown(report):
    report["engines"] = [engine("quick", [point(1)])]
    report["engines"][0]["points"][0]["roofline"] |= {"share": 1.04, "ceiling_too_low": True}
    text = " ".join(show(report).split())
    assert "12346 23457 too low bandwidth 11223" in text
    assert "104 %" not in text


def test_reasons_stand_beside_what_they_kept_from_running(report):
    text = show(report)
    assert "not run: absent: no [CUDA] device" in text
    assert "not run: dead: its process ended" in text
    assert "not run: half at batch 8: killed" in text
    assert "no share of the roofline: onnxruntime fp16: no ceiling" in text


def test_an_engine_that_describes_itself_is_quoted(report):
    report["engines"][0]["about"]["details"] = "2 streams of 4 threads"
    assert "onnxruntime int8 tensorrt cuda:0: 2 streams of 4 threads" in show(report)


@pytest.mark.parametrize(
    ("runs", "ending"), [(100, "1400 1500"), (99, "1400 1500 *"), (20, "1400 1500 *"), (19, "1400 * 1500 *")]
)
def test_percentiles_of_too_few_runs_are_marked(report, runs, ending):
    report["engines"] = [engine("latency", [point(1, runs=runs)])]
    (line,) = [line for line in show(report).splitlines() if "1300" in line]
    assert " ".join(line.split()).endswith(f"1300 {ending}")


def test_without_figures_there_are_no_tables(report):
    report["engines"], report["ceilings"] = [engine("absent", not_run="no device")], {}
    text = show(report)
    assert "engine alone" not in text
    assert "not run: absent: no device" in text
