"""``lfm-deploy bench`` as people and scripts meet it: one real run with next to no time for each point."""

import json
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from PIL import Image
from waiting import wait_for

from lfm_deploy.benchmark import sweep
from lfm_deploy.cli import run

QUICK = ("--seconds", "0.01", "--rounds", "2", "--threads", "1")


@pytest.fixture
def call(capfd):
    def call(*arguments):
        code = run(["bench", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def measured(deployment, tmp_path_factory):
    """A copy of the deployment, measured; the JSON that was printed, and what was said beside it."""
    folder = tmp_path_factory.mktemp("bench") / "deploy"
    shutil.copytree(deployment.path, folder)
    engines = [word for name in ("lfm.onnx", "lfm.fp16.onnx", "lfm.fp16.sm86.engine") for word in ("--engine", name)]
    arguments = ["bench", "--workdir", str(folder), "--batch", "1,4", "--json", *engines, *QUICK]
    finished = subprocess.run(
        [sys.executable, "-m", "lfm_deploy", *arguments], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return folder, json.loads(finished.stdout), finished.stderr


def test_every_engine_has_its_points_or_a_reason(measured, no_gpu):
    _, report, _ = measured
    assert report["format"] == "lfm-deploy bench 2"
    fp32, fp16, plan = report["engines"]
    assert [engine["file"] for engine in report["engines"]] == ["lfm.onnx", "lfm.fp16.onnx", "lfm.fp16.sm86.engine"]
    for engine in (fp32, fp16):
        assert [point["batch"] for point in engine["points"]] == [1, 4]
        for point in engine["points"]:
            assert point["p50_ms"] <= point["p90_ms"] <= point["p95_ms"] <= point["p99_ms"]
            assert point["fps"] * point["mean_ms"] == pytest.approx(1000 * point["batch"])
            assert point["runs"] >= 2
            assert len(point["round_fps"]) == 2
            assert point["peak_memory_mib"] > 0
            assert point["phases"] is None
    assert (plan["points"], plan["failed"], plan["files"]) == ([], False, None)
    assert plan["not_run"].startswith("no CUDA device")


def test_shares_are_of_what_the_machine_can_do(measured, small_config):
    _, report, _ = measured
    fp32, fp16, _ = report["engines"]
    ceilings = report["ceilings"]["cpu"]
    assert {"fp32", "int8", "bandwidth"} <= set(ceilings)
    assert all(len(ceiling["rounds"]) == 2 and ceiling["rate"] > 0 for ceiling in ceilings.values())
    libraries = {ceilings["fp32"]["library"], *ceilings["fp32"]["others"]}
    assert {name.partition(" (")[0] for name in libraries} == {"NumPy", "PyTorch", "ONNX Runtime"}
    for point in (*fp32["points"], *fp16["points"]):
        assert point["work"]["multiply_adds_per_picture"] == sum(small_config.multiply_adds(256, 256).values())
        # The float16 graph is held against float32 kernels, in the same bytes but for its typed tail.
        compute = 2 * point["work"]["multiply_adds"]["fp32"] / ceilings["fp32"]["rate"]
        memory = point["work"]["least_bytes"] / ceilings["bandwidth"]["rate"]
        limit = point["batch"] / max(compute, memory)
        assert point["roofline"]["fps"] == pytest.approx(limit)
        assert point["roofline"]["bound"] == ("compute" if compute >= memory else "bandwidth")
        assert point["roofline"]["share_lowest"] <= point["roofline"]["share"] <= point["roofline"]["share_highest"]
    assert (fp16["precision"], fp16["arithmetic"]) == ("fp16", "fp32")
    assert "float32 kernels" in fp16["arithmetic_reason"]
    assert fp32["arithmetic_reason"] is None


def test_a_baseline_is_measured_in_the_same_rounds(small_workdir, call, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "list_libraries", lambda device: [])  # ceilings are not what this is about
    shutil.copytree(small_workdir.path, tmp_path / "deploy")
    named = ("--workdir", tmp_path / "deploy", "--baseline", small_workdir.path, "--engine", "lfm.onnx")
    code, out, err = call(*named, "--batch", "1", "--no-files", "--json", *QUICK)
    assert code == 0
    report = json.loads(out)
    name = f"{small_workdir.path.name} onnxruntime fp32"
    assert [engine["name"] for engine in report["engines"]] == ["onnxruntime fp32", name]
    for engine in report["engines"]:
        (point,) = engine["points"]
        assert point["work"]["multiply_adds_per_picture"] > 0
        assert len(point["round_fps"]) == 2
    assert "taking lfm.onnx from" in err
    assert f"beside {small_workdir.path}" in err


def test_files_are_apart_from_the_engine(measured):
    _, report, _ = measured
    files = report["engines"][0]["files"]
    fastest = max(report["engines"][0]["points"], key=lambda point: point["fps"])
    assert (files["batch"], files["skipped"]) == (fastest["batch"], 0)
    assert min(files["fps"], files["engine_fps"], files["decoding_fps"], files["peak_memory_mib"]) > 0
    assert files["bound_by"] == ("decoding" if files["decoding_fps"] < files["engine_fps"] else "engine")


def test_it_says_what_a_figure_depends_on(measured):
    _, report, said = measured
    assert report["quick"]
    assert report["notes"][0].startswith("quick: not for quoting")
    assert report["settings"] == {
        "seconds_per_point": 0.01,
        "rounds": 2,
        "fewest_runs_per_point": 2,
        "threads": 1,
        "spinning": {"engine": True, "files": False},
        "pictures": "tiles of photographs, 256x256, 32 PNG and 32 JPEG",
    }
    assert {"processor", "cores_allowed", "instruction_sets", "memory_gib", "clock_mhz", "gpus"} <= set(
        report["machine"]
    )
    assert {"torch", "onnxruntime", "numpy", "pillow"} <= set(report["environment"]["libraries"])
    assert {"engine", "files", "file limit", "roofline", "layer by layer", "fps", "spread", "peak memory"} == set(
        report["included"]
    )
    assert "taking lfm.onnx, lfm.fp16.onnx, lfm.fp16.sm86.engine from" in said


def test_the_workdir_holds_the_json_and_its_plots(measured):
    folder, report, _ = measured
    assert json.loads((folder / "bench.json").read_text()) == report
    with Image.open(folder / "bench.png") as image:
        assert len(image.convert("L").getcolors()) > 10  # more than an empty sheet
    root = ET.parse(folder / "bench.svg").getroot()  # noqa: S314  # our own
    words = " ".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "onnxruntime fp32" in words
    assert "quick: not for quoting" in words
    assert not list(folder.glob(".lfm-tmp-*"))


@pytest.mark.parametrize("moment", ["as the first worker starts", "while it measures"])
def test_an_interruption_ends_every_worker(deployment, tmp_path, moment):
    shutil.copytree(deployment.path, tmp_path / "deploy")
    arguments = ["bench", "--workdir", str(tmp_path / "deploy"), "--seconds", "600", "--engine", "lfm.onnx"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lfm_deploy", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # The engine comes first, then three libraries that measure ceilings.
    children = wait_for(lambda: len(found := children_of(process.pid)) >= (1 if "first" in moment else 4) and found)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert "Interrupted" in said
    assert "Traceback" not in said
    wait_for(lambda: all(is_gone(child) for child in children))
    assert not (tmp_path / "deploy" / "bench.json").exists()


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
            return file.read().split()
    except FileNotFoundError:
        return []


def test_wrong_usage_is_exit_2(call, deployment, tmp_path):
    workdir = ("--workdir", deployment.path)
    for arguments, text in (
        (("--workdir", tmp_path), "nothing has been exported here"),
        ((*workdir, "--engine", "toaster"), "'toaster': not in this workdir, which has 'pytorch fp32' (lfm.pth), "),
        ((*workdir, "--batch", "1,x"), "expected batch sizes such as 1,8,32"),
        ((*workdir, "--batch", "0"), "expected batch sizes"),
        ((*workdir, "--batch", "1", "--max-batch", "4"), "Give one of them"),
        ((*workdir, "--no-files", "--pictures", tmp_path), "Give one of them"),
        ((*workdir, "--seconds", "0"), "0"),
        ((*workdir, "--engine", "lfm.fp16.sm86.engine", "--batch", "99"), "no engine takes such a batch"),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert text in err
        assert "Traceback" not in err


def test_where_nothing_can_run_it_is_exit_3(call, own_deployment, no_gpu):
    code, out, _ = call("--workdir", own_deployment.path, "--engine", "lfm.fp16.sm86.engine", *QUICK)
    assert code == 3
    assert "not run: tensorrt-rtx fp16 sm86: no CUDA device" in out
    assert json.loads((own_deployment.path / "bench.json").read_text())["engines"][0]["points"] == []
    assert not (own_deployment.path / "bench.svg").exists()
