import io
import json
import re
import shutil
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from mixed_files import write_mixed
from triton_server import TritonServer, pack

from engines.loading import load_engine
from export.graph import OPSET, ExportConfig
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.deployment import export_into
from lfm_deploy.deployment.golden import read_golden
from lfm_deploy.engine_info import read_engine_info, sidecar_path
from lfm_deploy.errors import ArtifactError, ConfigError, InputError
from lfm_deploy.pictures.decoding import decode_picture
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.prediction.prediction import predict
from lfm_deploy.prediction.rows import RowFormat, write_rows
from lfm_deploy.serving.repository import write_repository
from lfm_deploy.storage.atomic import sha256_of_bytes
from lfm_deploy.storage.sealed_values import seal_values
from lfm_deploy.workdir import Workdir

# Of Triton's ONNX Runtime, 1.27; 20 is known since 1.17.
NEWEST_OPSET = 20
TENSORRT = "10.16.1.11"

STAND_IN = """
import json
import os
import sys
from pathlib import Path

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        self.session = onnxruntime.InferenceSession(str(Path(__file__).with_name("model.onnx")))
        self.seen = Path(__file__).with_name("seen.txt").open("a")

    def execute(self, requests):
        answers = []
        for request in requests:
            images = backend.get_input_tensor_by_name(request, "image").as_numpy()
            print(json.dumps([str(images.dtype), images.shape, int(images.sum())]), file=self.seen, flush=True)
            (logits,) = self.session.run(["logit"], {"image": images})
            answers.append(backend.InferenceResponse([backend.Tensor("logit", logits.reshape(-1, 1))]))
        return answers
"""


def make_plan(workdir, source, gpu, **changes):
    """An engine that says that TensorRT made it; only a card could tell that it is not one."""
    path = workdir.engine(Precision.FP16, gpu)
    shutil.copy(source.engine(Precision.FP16, "sm86"), path)
    changes = {"runtime": "tensorrt", "library_version": TENSORRT, "gpu": gpu, "batch": (1, 16, 48)} | changes
    info = replace(read_engine_info(source.engine(Precision.FP16, "sm86")), **changes)
    sidecar_path(path).write_text(info.to_json())
    return path


@pytest.fixture(scope="module")
def workdir(deployment, tmp_path_factory):
    """A workdir with plans for two cards and an engine of tensorrt-rtx."""
    folder = tmp_path_factory.mktemp("triton") / "deploy"
    shutil.copytree(deployment.path, folder)
    made = Workdir(folder)
    make_plan(made, deployment, "sm86")
    make_plan(made, deployment, "sm120", batch=(1, 32, 256))
    make_plan(made, deployment, "sm89", runtime="tensorrt-rtx")
    return made


@pytest.fixture(scope="module")
def repository(workdir, tmp_path_factory):
    return write_repository(workdir, tmp_path_factory.mktemp("triton") / "models")


@pytest.fixture(scope="module")
def server(repository, request, tmp_path_factory):
    """One server for all tests: with the repository, with one configuration that is wrong, and with a stand-in.

    The stand-in has the configuration of lfm_onnx, and runs in the one backend that is there.
    """
    root = tmp_path_factory.mktemp("served") / "models"
    shutil.copytree(repository.path, root)
    config = (root / "lfm_onnx" / "config.pbtxt").read_text()
    for name, changed in {
        "wrong": f"{config}\nmax_batch_sizes: 3\n",
        "stand_in": re.sub('default_model_filename: ".*"', "", config).replace('"onnxruntime"', '"python"'),
    }.items():
        shutil.copytree(root / "lfm_onnx", root / name)
        (root / name / "config.pbtxt").write_text(changed.replace('"lfm_onnx"', f'"{name}"'))
    (root / "stand_in" / "1" / "model.py").write_text(STAND_IN)
    running = TritonServer(request.config.cache, root, root.parent / "log.txt")
    try:
        running.wait()
        yield running
    finally:
        running.close()


def test_lfm_jpeg_gives_the_rows_of_predict_on_200_files(server, workdir, tmp_path):
    paths = write_mixed(tmp_path, 200)
    rows = list(predict(paths, workdir=workdir, device="cpu"))
    expected = write_rows(rows, RowFormat.JSONL).decode().splitlines()
    found = {}

    def work(start):
        mine = paths[start : start + 25]
        files = pack([path.read_bytes() for path in mine])
        found[start] = server.infer("lfm_jpeg", {"picture": files, "name": pack([str(path).encode() for path in mine])})

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, len(paths), 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = [found[start] for start in range(0, len(paths), 25)]
    assert [line for answer in answers for line in answer["row"]] == expected
    assert [word or None for answer in answers for word in answer["verdict"]] == [row.verdict for row in rows]
    assert {row.verdict for row in rows} == {"fake", "real", None}


def test_a_picture_without_a_name(server):
    found = server.infer("lfm_jpeg", {"picture": pack([b"no picture"])})
    assert json.loads(found["row"][0]) == {
        "path": "picture",
        "logit": None,
        "probability": None,
        "verdict": None,
        "error": "cannot be read: not a picture of a known format",
        "notes": [],
    }


@pytest.mark.parametrize(("model", "backend"), [("lfm_onnx", "onnxruntime"), ("lfm_trt", "tensorrt")])
def test_a_configuration_is_parsed_and_only_its_backend_is_missing(server, model, backend):
    state, reason = server.states()[model]
    assert (state, f"unable to find backend library for backend '{backend}'" in reason) == ("UNAVAILABLE", True)


def test_an_unknown_field_is_refused(server):
    """So that the test above could fail."""
    assert server.states().get("wrong", ("", ""))[0] != "READY"
    assert 'no field named "max_batch_sizes"' in server.log.read_text(errors="replace")


def test_pixels_in_logits_out_by_the_configuration_of_lfm_onnx(server, workdir):
    images = sample_tiles(256, 256, 5)
    found = server.infer("stand_in", {"image": ("UINT8", list(images.shape), images.tobytes())})
    expected = load_engine(workdir.graph(Precision.FP32)).logits(images)
    # Digits of JSON in Triton are those of a float64.
    np.testing.assert_array_equal(np.array(found["logit"], np.float32), expected)


def test_the_warm_up_is_a_golden_picture_alone_and_in_the_largest_batch(server, workdir):
    golden = read_golden(workdir.golden)
    config = load_engine(workdir.graph(Precision.FP32)).config
    total = int(decode_picture(golden.pictures[0].content, golden.size, config).sum())
    seen = server.log.parent / "models" / "stand_in" / "1" / "seen.txt"
    first, *others = [json.loads(line) for line in seen.read_text().splitlines()]
    assert first == ["uint8", [1, 256, 256, 3], total]
    warmed = [line for line in others if line[2] % total == 0]
    assert sum(line[1][0] for line in warmed) == 64


def test_plans_are_named_by_card_and_others_left_out_with_the_reason(repository, workdir):
    config = (repository.path / "lfm_trt" / "config.pbtxt").read_text()
    assert re.findall(r'key: "(\d+\.\d)"\s+value: "(.*)"', config) == [
        ("8.6", "lfm.fp16.sm86.plan"),
        ("12.0", "lfm.fp16.sm120.plan"),
    ]
    version = repository.path / "lfm_trt" / "1"
    assert sorted(path.name for path in version.iterdir()) == ["lfm.fp16.sm120.plan", "lfm.fp16.sm86.plan"]
    plan, engine = version / "lfm.fp16.sm86.plan", workdir.engine(Precision.FP16, "sm86")
    assert plan.read_bytes() == engine.read_bytes()
    assert "tensorrt-rtx" in repository.left_out["lfm.fp16.sm89.engine"]
    readme = (repository.path / "README.md").read_text()
    assert f"TensorRT {TENSORRT}" in readme
    assert "lfm.fp16.sm89.engine" in readme


def test_batches_fit_every_plan_and_cuda_graphs_are_of_exact_sizes(repository):
    config = (repository.path / "lfm_trt" / "config.pbtxt").read_text()
    assert "max_batch_size: 48\n" in config  # the smaller of two largest batches
    assert "preferred_batch_size: [16, 32, 48]" in config
    assert re.findall(r"graph_spec \{\s+batch_size: (\d+)", config) == ["1", "16", "32", "48"]
    assert "graph_lower_bound" not in config


def test_every_configuration_holds_the_contract(repository, workdir):
    from lfm_deploy.artifacts import read_graph_info

    contract = read_graph_info(workdir.graph(Precision.FP32)).contract.as_dict()
    for model in ("lfm_onnx", "lfm_trt", "lfm_jpeg"):
        config = (repository.path / model / "config.pbtxt").read_text()
        text = re.search(r'key: "lfm_contract"\s+value \{\s+string_value: (".*")', config)[1]
        assert json.loads(json.loads(text)) == contract


def test_the_opset_is_known_to_tritons_onnx_runtime(repository):
    import onnx

    assert OPSET <= NEWEST_OPSET
    model = onnx.load(repository.path / "lfm_onnx" / "1" / "model.onnx", load_external_data=False)
    assert model.opset_import[0].version <= NEWEST_OPSET


def test_plans_of_two_versions_do_not_share_a_server(workdir, deployment, tmp_path):
    folder = tmp_path / "deploy"
    shutil.copytree(workdir.path, folder)
    make_plan(Workdir(folder), deployment, "sm80", library_version="10.12.0.1")
    make_plan(Workdir(folder), deployment, "sm90", batch=(4, 8, 16))
    found = write_repository(Workdir(folder), tmp_path / "models")
    assert "needs TensorRT 10.12.0.1" in found.left_out["lfm.fp16.sm80.engine"]
    assert "no fewer than 4" in found.left_out["lfm.fp16.sm90.engine"]
    assert found.tensorrt == TENSORRT


def test_without_plans_there_is_no_lfm_trt(deployment, tmp_path):
    found = write_repository(deployment, tmp_path / "models", precision=Precision.FP16)
    assert set(found.models) == {"lfm_onnx", "lfm_jpeg"}
    assert found.models["lfm_onnx"] == "lfm.fp16.onnx"
    assert "There is no `lfm_trt`" in (tmp_path / "models" / "README.md").read_text()


def test_native_sizes_and_evidence(small_checkpoint, tmp_path):
    workdir = Workdir(tmp_path / "deploy")
    export_into(workdir, small_checkpoint, ExportConfig(size="native", evidence=True), lambda _: None)
    write_repository(workdir, tmp_path / "models")
    config = (tmp_path / "models" / "lfm_onnx" / "config.pbtxt").read_text()
    assert "dims: [-1, -1, 3]" in config
    assert 'name: "evidence_values"' in config
    assert "dims: [240, 320, 3]" in config  # of the picture that warms up


def test_a_folder_that_is_there_is_kept(deployment, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        write_repository(deployment, tmp_path)
    with pytest.raises(InputError, match=r"more than a model repository \(mine.txt\)"):
        write_repository(deployment, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is there already"):
        write_repository(deployment, tmp_path / "mine.txt", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    write_repository(deployment, tmp_path / "models")
    with pytest.raises(InputError, match="--overwrite"):
        write_repository(deployment, tmp_path / "models")
    write_repository(deployment, tmp_path / "models", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "models"]


def golden_pictures_that_do_not_fit(deployment):
    """Archives that hold what they promise, by what is said of them."""
    with zipfile.ZipFile(deployment.golden) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    index = json.loads(files.pop("golden.json"))
    del index["content_sha256"]

    def repack(first, **changes):
        entry = index["pictures"][0] | {"sha256": sha256_of_bytes(first)}
        values = index | changes | {"pictures": [entry, *index["pictures"][1:]]}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in (
                files | {entry["file"]: first, "golden.json": json.dumps(seal_values(values))}
            ).items():
                archive.writestr(name, content)
        return packed.getvalue()

    name = index["pictures"][0]["file"]
    return {
        "was made from another checkpoint": repack(files[name], checkpoint_sha256="0" * 64),
        "holds pictures at size -1": repack(files[name], size=-1),
        "holds pictures at size native": repack(files[name], size="native"),
        f"{name}: cannot be read": repack(files[name][:50]),
    }


def test_a_workdir_that_cannot_be_served(deployment, small_checkpoint, tmp_path):
    with pytest.raises(ArtifactError, match=r"no such graph.*lfm-deploy build --int8"):
        write_repository(deployment, tmp_path / "models", precision=Precision.INT8)
    folder = tmp_path / "deploy"
    shutil.copytree(deployment.path, folder)
    Workdir(folder).golden.unlink()
    with pytest.raises(ArtifactError, match=r"golden\.zip: no such file"):
        write_repository(Workdir(folder), tmp_path / "models")
    for name, content in golden_pictures_that_do_not_fit(deployment).items():
        Workdir(folder).golden.write_bytes(content)
        with pytest.raises(ArtifactError, match=rf"golden\.zip: {name}.*lfm-deploy export"):
            write_repository(Workdir(folder), tmp_path / "models")
    from lfm_deploy.artifacts import InputForm

    floats = Workdir(tmp_path / "floats")
    export_into(floats, small_checkpoint, ExportConfig(input=InputForm.FLOAT), lambda _: None)
    with pytest.raises(ConfigError, match="normalised pixels"):
        write_repository(floats, tmp_path / "models")
    assert not (tmp_path / "models").exists()
