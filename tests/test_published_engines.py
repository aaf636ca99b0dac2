"""Engines of the published checkpoint: faults are caught on real pictures; what pages say of memory and INT8 is so."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import published_record as record
import pytest
from documentation import find_row, read_flowing
from onnx import numpy_helper

from calib.pictures import PictureStore
from calib.scoring import score_graph
from engines.builder import BuildConfig
from engines.library import load_library
from engines.loading import load_engine
from export.graph import ExportConfig, make_graph
from export.precision import make_int8_graph
from lfm_deploy.artifacts import Precision
from lfm_deploy.deployment.deployment import BuildTarget, build_into
from lfm_deploy.deployment.kernel_table import describe_kernels
from lfm_deploy.network.origin import read_origin
from lfm_deploy.pictures.images import read_image
from lfm_deploy.scoring.scores import Scores
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.verification.comparison import compare_suite, measure_suite
from lfm_deploy.verification.gates import judge_suite
from lfm_deploy.workdir import Workdir


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_swapped_channels_are_caught_on_real_pictures(official_deployment, wild, shared, tmp_path, precision):
    _, rows = wild
    chosen = [row for row in rows if row["engine"] == "pytorch fp32" and row["set"] == "stylegan2_ffhq256"][::4]
    labels = np.array([int(row["label"]) for row in chosen])
    paths = tuple(Path(row["path"]) for row in chosen)
    graph = onnx.load(official_deployment.graph(precision))
    (tensor,) = [tensor for tensor in graph.graph.initializer if tensor.name == "conv1.weight"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), tensor.name))
    (tmp_path / "swapped.onnx").write_bytes(seal_graph(graph))
    images = np.stack([read_image(path) for path in paths])

    def score(path):
        with closing(load_engine(path)) as engine:
            return [("set", Scores(paths=paths, labels=labels, logits=engine.logits(images)))]

    logits = np.array([float(row["logit"]) for row in chosen], dtype=np.float32)
    expected = [("set", Scores(paths=paths, labels=labels, logits=logits))]
    reference = measure_suite("wild", expected, 0.0, rounds=50)
    for path, caught in ((official_deployment.graph(precision), False), (tmp_path / "swapped.onnx", True)):
        result = compare_suite("wild", score(path), reference, 0.0)
        gates = judge_suite(precision, result, reference.spread)
        assert any(gate.outcome == "fails" for gate in gates) is caught


def judge(model, column, wild):
    """Rows of FP32 in ONNX Runtime; whether it, and whether a graph, calls each of their pictures fake.

    The graph judges a sample of the pictures, and its answers must be those of the record; the rest is in the record.
    """
    _, rows = wild
    reference = [row for row in rows if row["engine"] == record.FP32]
    kept = record.read_answers()[column]
    names = [record.name_picture(row["path"]) for row in reference]
    chosen = [index for index, name in enumerate(names) if name in record.choose_sample(column)]
    with PictureStore() as store:
        for index in chosen:
            store.add(read_image(Path(reference[index]["path"])))
        anew = score_graph(model, store, range(len(chosen)))
    # Another processor may round a few weights the other way. The INT8 graph of least change moves logits by 0.15.
    assert np.mean([abs(logit - kept[names[index]]) for index, logit in zip(chosen, anew, strict=True)]) <= 0.1
    found = np.array([kept[name] > 0 for name in names])
    found[chosen] = anew > 0
    return reference, np.array([float(row["logit"]) > 0 for row in reference]), found


def test_the_page_says_what_int8_by_the_defaults_of_tools_costs(official_deployment, wild):
    source, info = read_origin(official_deployment)
    half = make_graph(source, ExportConfig(size=info.contract.size, precision=Precision.FP16))
    plain = record.prepare_plainly(half, official_deployment)
    reference, expected, found = judge(make_int8_graph(plain, info.config.layers), record.MIN_MAX, wild)
    labels = np.array([row["label"] == "1" for row in reference])
    names = np.array([row["set"] for row in reference])
    both = [name for name in set(names) if len(set(labels[names == name])) == 2]
    acc = 100 * np.mean([np.mean((found == labels)[names == name]) for name in both])
    row = find_row("docs/int8.md", "every layer in INT8 for TensorRT, min/max ranges, weights rounded to the nearest")
    assert row[1:] == (str(np.sum(found != expected)), f"{acc:.2f}")


def test_the_page_says_how_much_memory_the_published_checkpoint_takes_and_its_speed_at_best(
    official_deployment, wild, tmp_path
):
    library = load_library("tensorrt-rtx")
    if f"tensorrt-rtx {library.version}" not in read_flowing("docs/engines.md"):
        pytest.skip(f"docs/engines.md gives the figures of another version than {library.version}")
    workdir = Workdir(tmp_path / "deploy")
    shutil.copytree(official_deployment.path, workdir.path)
    layers, share = record.read_made_with()["by_time"].values()
    assert [name for name, precision in layers.items() if precision == "int8"] == ["conv3", "conv4", "projection"]
    graph = shutil.copy(official_deployment.path.parent / "by_time.onnx", workdir.graph(Precision.INT8))
    _, expected, found = judge(onnx.load(graph), record.BY_TIME, wild)
    told = f"{100 * share:.0f} % of the multiply-adds), of whose 965 decisions {np.sum(found != expected)} flip."
    assert told in read_flowing("docs/int8.md")
    for precision in (Precision.FP32, Precision.FP16, Precision.INT8):
        target = BuildTarget(library, ("sm86",), "")
        (built,) = build_into(workdir, precision, target, BuildConfig(), on_message=print)
        weights, activations = built.info.weights_bytes / 2**20, built.info.activation_bytes / 2**20
        stated = find_row("docs/engines.md", precision.upper())
        assert stated == (precision.upper(), f"{weights:.1f} MiB", f"{activations:.1f} MiB")
        kernels = describe_kernels(built.info)
        moved, fps = kernels["picture_bytes"] / 1e6, kernels["cards"][0]["fps"]
        name = f"{precision.upper()} at best"
        assert find_row("docs/engines.md", name) == (name, f"{moved:.1f}", f"{fps:,}")
