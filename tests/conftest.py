"""What several test files share. Tests that need a folder ``shared`` beside the checkout skip where it is missing."""

import csv
import ctypes.util
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from lfm_deploy.config import ModelConfig
from lfm_deploy.workdir import Workdir

SHARED = Path(__file__).resolve().parents[2] / "shared"
MakeOnce = Callable[[str, Callable[[Path], None]], Path]
LONGEST = (
    "test_demonstration.py",
    "test_published.py",
    "test_ray_run.py",
    "test_ray_jobs.py",
    "test_ablations.py",
    "test_cli.py",
    "test_fuzzing.py",
    "test_layer_search.py",
    "test_int8_graph.py",
    "test_service.py",
    "test_machine_limits.py",
    "test_published_engines.py",  # waits for what test_published makes
    "test_remote.py",
    "test_architectures.py",
    "test_proof.py",
    "test_fused_network.py",
    "test_ray_cluster.py",
    "test_bench.py",
    "test_layer_times.py",
    "test_deployment.py",
    "test_builder.py",
    "test_cli_verify.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="tests that skip without a GPU fail instead")
    parser.addoption("--only-gpu", action="store_true", help="only tests that run on a GPU where there is one")
    parser.addoption(
        "--require-lean", action="store_true", help="tests that skip without TensorRT's lean runtimes fail"
    )
    parser.addoption("--require-browser", action="store_true", help="tests that skip without Chromium fail instead")


def pytest_configure() -> None:
    """Give this process its share of the cores, and Ctrl-C back to it; settle how kernels run.

    Ctrl-C is tested: a run in the background of a shell inherits that it is ignored, and so would its processes.
    Without NVIDIA's driver, Triton's kernels are interpreted on tensors in host memory, which Triton must know when it
    is imported.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ctypes.util.find_library("cuda") is None and not Path("/dev/nvidiactl").exists():
        os.environ["TRITON_INTERPRET"] = "1"
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        take_cores(int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))


def take_cores(worker: int, workers: int) -> None:
    """Every n-th core, for this process and those that it starts.

    Each of several test processes would otherwise start a thread for every core, and threads that wait for each other
    at full speed while another process has the core take half of the time. NumPy and others count cores once, when they
    are imported.
    """
    if "numpy" in sys.modules:
        raise pytest.UsageError("NumPy was imported before this process had its share of the cores: import it later")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[worker % len(cores) :: workers])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files go first, so that all processes finish together."""
    if config.getoption("--only-gpu"):
        others = [item for item in items if not runs_on_gpu(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if runs_on_gpu(item)]
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def runs_on_gpu(item: pytest.Item) -> bool:
    """Whether a test asks for the GPU, or for the device of kernels; a parameter that is called ``gpu`` is neither."""
    own = getattr(getattr(item, "callspec", None), "params", {})
    return any(name in getattr(item, "fixturenames", ()) and name not in own for name in ("gpu", "kernel_device"))


@pytest.fixture(autouse=True)
def _read_operators_once() -> None:
    """The exporter of PyTorch parses the source of all operators for each graph, two fifths of the time it takes."""
    registration = sys.modules.get("torch.onnx._internal.exporter._registration")
    operators = getattr(registration, "onnxscript_apis", None)
    if operators is not None and not hasattr(operators.get_torchlib_ops, "cache_info"):
        operators.get_torchlib_ops = functools.cache(operators.get_torchlib_ops)


@pytest.fixture(scope="session", autouse=True)
def _export_each_graph_once(make_once: MakeOnce) -> None:
    """Graphs that any of these tests have exported are taken over, see ``export_cache``."""
    graph: Any = sys.modules.get("export.graph")
    if graph is not None and not hasattr(graph._export, "__wrapped__"):
        from export_cache import keep_exports

        graph._export = keep_exports(graph._export, make_once)


@pytest.fixture
def export_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the export itself: nothing is taken over."""
    from export import graph

    monkeypatch.setattr(graph, "_export", getattr(graph._export, "__wrapped__", graph._export))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the published checkpoint and real pictures."""
    if not SHARED.is_dir():
        pytest.skip(
            "the folder 'shared' is not beside this checkout: the published checkpoint and pictures are missing"
        )
    return SHARED


@pytest.fixture(scope="session")
def official_checkpoint(shared: Path) -> Path:
    """The published checkpoint."""
    return shared / "official" / "bs_model.pth"


@pytest.fixture(scope="session")
def official_deployment(official_checkpoint: Path, shared: Path, make_once: MakeOnce) -> Workdir:
    """The published checkpoint as a user deploys it: FP32, FP16, and INT8 of both recipes. Do not write.

    INT8 is made from the ranges and layers of a record, see ``published_record``. Beside it ``proof.json`` has the rows
    of the export's proof, and ``by_time.onnx`` is INT8 for TensorRT with layers that were chosen by their time.
    """

    def fill(folder: Path) -> None:
        import published_record as record

        from calib.search_findings import read_findings
        from export.graph import ExportConfig
        from lfm_deploy.artifacts import Precision
        from lfm_deploy.deployment.deployment import export_into, make_typed_graph
        from lfm_deploy.quantisation import Recipe

        workdir = Workdir(folder / "deploy")
        graph = export_into(workdir, official_checkpoint, ExportConfig(), lambda _: None)
        (folder / "proof.json").write_text(json.dumps([asdict(row) for row in graph.proof]))
        make_typed_graph(workdir, Precision.FP16, lambda _: None)
        for kept, path in ((record.RANGES, workdir.ranges), (record.PRECISIONS, workdir.precisions)):
            shutil.copy(kept, path)
        for recipe, findings in read_findings(workdir).items():
            prepared = record.prepare_as_kept(workdir, shared / "calibration" / "mixed", recipe)
            make = functools.partial(record.make_int8_graph, workdir, recipe, prepared)
            content = make(record.read_layers(findings), findings["int8_share"])
            workdir.graph(Precision.INT8, recipe).write_bytes(content)
            if recipe is Recipe.TENSORRT:
                (folder / "by_time.onnx").write_bytes(make(*record.read_made_with()["by_time"].values()))

    return Workdir(make_once("official", fill) / "deploy")


@pytest.fixture(scope="session")
def verified(official_deployment: Workdir, shared: Path, make_once: MakeOnce) -> tuple[Workdir, dict[str, Any]]:
    """The first real input, as a user runs it: photographs and generator output. Workdir and report. Do not write.

    A sample of the pictures is scored; of the others the answers are known from a record, see ``published_record``.
    """

    def fill(folder: Path) -> None:
        import published_record as record

        shutil.copytree(official_deployment.path, folder / "deploy")
        record.keep_answers(Workdir(folder / "deploy"), shared / "wild")
        suite = str(shared / "wild")
        command = [sys.executable, "-m", "lfm_deploy", "verify", "--suite", suite, "--no-speed", "--json"]
        command.append("--allow-undecided")  # some 960 pictures cannot show that ACC moves by less than 0.1 points
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        (folder / "printed.json").write_text(finished.stdout)

    folder = make_once("verified wild", fill)
    return Workdir(folder / "deploy"), json.loads((folder / "printed.json").read_text())


@pytest.fixture(scope="session")
def wild(verified: tuple[Workdir, dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Of that verification, the report and rows of scores."""
    workdir, report = verified
    with workdir.scores.open() as file:
        return report, list(csv.DictReader(file))


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, Any]:
    """Pictures with logits and TKP vectors by the authors' own code."""
    import numpy as np

    with np.load(shared / "official" / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    """A network that is quick to run."""
    return ModelConfig(widths=(8, 8, 16), projection=4, k=4)


def write_random_checkpoint(config: ModelConfig, path: Path, side: int = 256) -> Path:
    """A checkpoint with random weights and batch-norm statistics, so that folds matter.

    Its bias lies in the widest gap between the middle logits of the sample tiles of that side, so that both decisions
    occur, and none of them by a hair.
    """
    import torch

    from lfm_deploy.network.checkpoint import write_checkpoint
    from lfm_deploy.network.model import LFM, normalise
    from lfm_deploy.pictures.photographs import sample_tiles

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LFM(config)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                values = module.state_dict()  # the module's own tensors
                for name in ("weight", "running_var"):
                    torch.nn.init.uniform_(values[name], 0.5, 1.5)
                for name in ("bias", "running_mean"):
                    torch.nn.init.normal_(values[name], std=0.2)
        torch.nn.init.normal_(model.fc.weight, std=20)
        with torch.inference_mode():
            logits = model.eval()(normalise(torch.from_numpy(sample_tiles(side, side, 24)))).sort().values
        widest = 6 + int(logits.diff()[6:17].argmax())
        model.fc.bias.data -= logits[widest : widest + 2].mean()
    write_checkpoint(path, model.eval())
    return path


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Makes a folder of a name once for all test processes; who comes later waits, and reads what is there."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # that of the process that started this one

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, whole = root / name, root / f"{name}.whole"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # another process failed at it
                folder.mkdir()
                fill(folder)
                whole.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def small_checkpoint(small_config: ModelConfig, make_once: MakeOnce) -> Path:
    """A random checkpoint of the small network."""

    def fill(folder: Path) -> None:
        write_random_checkpoint(small_config, folder / "small.pth")

    return make_once("checkpoint", fill) / "small.pth"


@pytest.fixture(scope="session")
def other_checkpoint(small_config: ModelConfig, make_once: MakeOnce) -> Path:
    """A checkpoint of another small network."""

    def fill(folder: Path) -> None:
        write_random_checkpoint(replace(small_config, k=2), folder / "other.pth", 64)

    return make_once("other", fill) / "other.pth"


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Any:
    """The GPU in this machine; skips without one, or fails with --require-gpu."""
    from engines.gpus import find_gpu
    from lfm_deploy.errors import UnavailableError

    try:
        return find_gpu()
    except UnavailableError as error:
        if request.config.getoption("--require-gpu"):
            pytest.fail(f"--require-gpu: {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kernel_device(request: pytest.FixtureRequest) -> str:
    """Where kernels are tested: on the GPU, with --require-gpu there alone, or interpreted on the CPU."""
    pytest.importorskip("triton", reason="Triton is not installed")
    import torch

    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if torch.cuda.is_available() and not interpreted:
        return "cuda:0"
    if request.config.getoption("--require-gpu"):
        pytest.fail("--require-gpu: kernels are interpreted, or PyTorch cannot use the GPU")
    if interpreted:
        return "cpu"
    pytest.skip("this PyTorch cannot use the GPU, and kernels are interpreted only where there is no driver")


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Any:
    """A headless Chromium, as a person opens pages in; skips without one, or fails with --require-browser."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        why = "no Chromium on this machine: install Debian's package chromium"
        if request.config.getoption("--require-browser"):
            pytest.fail(f"--require-browser: {why}")
        pytest.skip(why)
    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to run as root, as in a container.
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def small_graph(small_checkpoint: Path, make_once: MakeOnce) -> Path:
    """An FP32 graph of the small network, proved."""

    def fill(folder: Path) -> None:
        from export.exporter import export_onnx

        export_onnx(small_checkpoint, folder / "lfm.onnx")

    return make_once("graph", fill) / "lfm.onnx"


@pytest.fixture(scope="session")
def small_graphs(small_checkpoint: Path, make_once: MakeOnce) -> Callable[..., Any]:
    """Gives a graph of the small network by what ``ExportConfig`` takes; it is exported once, and the test's own.

    For tests of what becomes of a graph, and not of the export.
    """

    def give(**choices: Any) -> Any:
        import onnx

        from export.graph import ExportConfig, make_graph
        from lfm_deploy.network.checkpoint import read_checkpoint

        config = ExportConfig(**choices)

        def fill(folder: Path) -> None:
            onnx.save(make_graph(read_checkpoint(small_checkpoint), config), folder / "graph.onnx")

        name = hashlib.sha256(repr(config).encode()).hexdigest()[:16]
        return onnx.load(make_once(f"graph {name}", fill) / "graph.onnx")

    return give


@pytest.fixture(scope="session")
def small_workdir(small_checkpoint: Path, small_graph: Path, make_once: MakeOnce) -> Workdir:
    """A workdir with the small network, just exported. Do not write."""

    def fill(folder: Path) -> None:
        from lfm_deploy.artifacts import Precision

        shutil.copy(small_checkpoint, Workdir(folder).checkpoint)
        shutil.copy(small_graph, Workdir(folder).graph(Precision.FP32))

    return Workdir(make_once("small", fill))


@pytest.fixture(scope="session")
def deployment(small_checkpoint: Path, make_once: MakeOnce) -> Workdir:
    """A workdir with the small network: FP32 and FP16 graphs, and engines of tensorrt-rtx for sm86. Do not write."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    def fill(folder: Path) -> None:
        from engines.builder import BuildConfig
        from engines.library import load_library
        from export.graph import ExportConfig
        from lfm_deploy.artifacts import Precision
        from lfm_deploy.deployment.deployment import BuildTarget, build_into, export_into

        workdir = Workdir(folder)
        export_into(workdir, small_checkpoint, ExportConfig(), lambda _: None)
        target = BuildTarget(load_library("tensorrt-rtx"), ("sm86",), "for the tests")
        for precision in (Precision.FP32, Precision.FP16):
            build_into(workdir, precision, target, BuildConfig(batch=(1, 4, 8)), on_message=lambda _: None)

    return Workdir(make_once("deployment", fill))


@pytest.fixture
def own_deployment(deployment: Workdir, tmp_path: Path) -> Workdir:
    """A copy of the deployment that a test may change."""
    shutil.copytree(deployment.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.fixture
def no_gpu() -> None:
    """For tests of what happens without a GPU; they skip where there is one."""
    from engines.gpus import find_gpu
    from lfm_deploy.errors import UnavailableError

    try:
        found = find_gpu()
    except UnavailableError:
        return
    pytest.skip(f"this machine has a GPU: {found.name}")


@pytest.fixture(scope="session")
def pictures(make_once: MakeOnce) -> Path:
    """A folder of two test sets, ``first`` and ``second``, 6 real and 6 fake pictures in each."""

    def fill(folder: Path) -> None:
        from PIL import Image

        from lfm_deploy.pictures.photographs import sample_tiles

        for index, tile in enumerate(sample_tiles(256, 256, 24)):
            home = folder / ("first", "second")[index % 2] / ("0_real", "1_fake")[index // 2 % 2]
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile).save(home / f"{index:02}.png")

    return make_once("suite", fill)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real S3 server on loopback, in a process of its own."""
    for name in ("s3fs", "moto"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    from s3_server import S3Server

    server = S3Server(tmp_path_factory.mktemp("s3") / "log.txt")
    yield server
    server.close()


@pytest.fixture
def bucket(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new bucket there, which this process finds by S3's own settings."""
    from s3_server import Bucket

    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return Bucket(s3_server.url)


@pytest.fixture(scope="session")
def calibration_folder(make_once: MakeOnce) -> Path:
    """96 small pictures, 48 of each class, spread over two categories."""

    def fill(folder: Path) -> None:
        from PIL import Image

        from lfm_deploy.pictures.photographs import sample_tiles

        for index, tile in enumerate(sample_tiles(64, 64, 96)):
            home = folder / ("cats", "dogs")[index // 2 % 2] / ("0_real", "1_fake")[index % 2]
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile).save(home / f"{index:02}.png")

    return make_once("calibration", fill)


@pytest.fixture(scope="session")
def wide_budget() -> Any:
    """A budget for the small network, whose random logits crowd around the threshold."""
    from lfm_deploy.quantisation import Budget

    return Budget(acc=9, ap=9, flips=9)


@pytest.fixture(scope="session")
def tile_workdir(small_checkpoint: Path, make_once: MakeOnce) -> Workdir:
    """A workdir with the small network for 64x64 pixels, just exported. Do not write."""

    def fill(folder: Path) -> None:
        from export.graph import ExportConfig
        from lfm_deploy.deployment.deployment import export_into

        export_into(Workdir(folder), small_checkpoint, ExportConfig(size=64), lambda _: None)

    return Workdir(make_once("tiles", fill))


@pytest.fixture
def own_tile_workdir(tile_workdir: Workdir, tmp_path: Path) -> Workdir:
    """A copy of it that a test may change."""
    shutil.copytree(tile_workdir.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.fixture(scope="session")
def calibrated(tile_workdir: Workdir, calibration_folder: Path, wide_budget: Any, make_once: MakeOnce) -> Workdir:
    """A workdir with the small network for 64x64 pixels: FP32, ranges, INT8 graphs of both recipes. Do not write."""

    def fill(folder: Path) -> None:
        from calib.calibration import calibrate_into
        from calib.int8_graph import quantise_into
        from lfm_deploy.quantisation import Recipe

        shutil.copytree(tile_workdir.path, folder, dirs_exist_ok=True)
        calibrate_into(Workdir(folder), calibration_folder)
        for recipe in Recipe:
            quantise_into(Workdir(folder), recipe, wide_budget)

    return Workdir(make_once("calibrated", fill))


@pytest.fixture
def own_calibrated(calibrated: Workdir, tmp_path: Path) -> Workdir:
    """A copy of the calibrated workdir that a test may change."""
    shutil.copytree(calibrated.path, tmp_path / "deploy")
    return Workdir(tmp_path / "deploy")


@pytest.fixture
def quick_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """``build --target cpu`` measures next to nothing: for tests that are not about what it chooses."""
    from engines.cpu_choice import choose_cpu_settings

    defaults = choose_cpu_settings.__kwdefaults__
    assert defaults is not None, "it has no keyword that this could make quick"
    for name, value in {"rounds": 1, "seconds": 0.001}.items():
        assert name in defaults
        monkeypatch.setitem(defaults, name, value)
