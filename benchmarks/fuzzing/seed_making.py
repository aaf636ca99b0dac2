"""Making the seeds with the product itself: a tiny network, a few pictures, a training run that was stopped."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from fuzzing.misvalues import to_toml
from fuzzing.running import run_inside
from fuzzing.seeds import FORMATS, RECIPE
from lfm_deploy.errors import BuildError, UnavailableError

_SIDE = 256
_OPTIONAL = {".jp2": "jpg_2000", ".avif": "avif", ".webp": "webp", ".tiff": "libtiff"}
DETECTOR: dict[str, Any] = {
    "name": "NPR",
    "onnx": "foreign.onnx",
    "source": "somewhere",
    "input": {
        "name": "input",
        "layout": "NCHW",
        "dtype": "float32",
        "colour": "RGB",
        "fit": "square",
        "resize": 64,
        "filter": "bilinear",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "output": {"name": "logit", "meaning": "logit", "threshold": 0.0},
}


def make_seeds(folder: Path, workdir: Path | None, *, whole: bool) -> None:
    """Fill a folder that ``Seeds`` reads.

    Args:
        folder: path of the folder; it is made.
        workdir: a workdir to copy; None makes one of a tiny random network.
        whole: whether to make what takes long too: ranges, INT8, a verification, a training run.
    """
    folder.mkdir(parents=True)
    _make_pictures(folder)
    deploy = folder / "deploy"
    if workdir is None:
        _make_workdir(folder, deploy)
    else:
        shutil.copytree(workdir, deploy)
    _make_engine(deploy)
    _write_published(folder / "published.pth")
    if whole:
        if not (deploy / "ranges.json").exists():
            _succeed("calibrate", folder / "suite", "--count", "32", "--workdir", deploy)
        if not (deploy / "precision.json").exists():
            options = ("--int8", "--layers", "all", "--gpu", "sm86", "--budget", "acc=90,ap=90,flips=90%")
            _succeed("build", *options, "--workdir", deploy)
        _make_detector(folder)
        _stop_training(folder)
    (folder / "recipe.toml").write_text(to_toml(RECIPE))
    _note_answers(folder, whole)


def _succeed(*arguments: object, codes: tuple[int, ...] = (0,)) -> str:
    answer = run_inside([str(argument) for argument in arguments])
    if answer.code not in codes:
        raise SystemExit(f"making the seeds failed: {arguments}: {answer.err}")
    return answer.out


def _make_pictures(folder: Path) -> None:
    from lfm_deploy.pictures.photographs import sample_tiles

    tiles = sample_tiles(80, 96, 44)
    for name in ("tiles", "formats"):
        (folder / name).mkdir()
    for index in range(4):
        Image.fromarray(tiles[5 * index]).save(folder / "tiles" / f"{index}.png")
    for suffix, (_, options) in FORMATS.items():
        if suffix not in _OPTIONAL or features.check(_OPTIONAL[suffix]):
            Image.fromarray(tiles[7]).save(folder / "formats" / f"a{suffix}", **options)
    for index, tile in enumerate(tiles[4:]):
        home = folder / "suite" / ("0_real", "1_fake")[index % 2]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile[:64, :64]).save(home / f"{index:02}.png")


def _make_workdir(folder: Path, deploy: Path) -> None:
    import torch

    from lfm_deploy.config import ModelConfig
    from lfm_deploy.network.checkpoint import write_checkpoint
    from lfm_deploy.network.model import LFM, normalise
    from lfm_deploy.pictures.photographs import sample_tiles

    torch.manual_seed(0)
    model = LFM(ModelConfig(widths=(4, 8, 8), projection=4, k=4)).eval()
    torch.nn.init.normal_(model.fc.weight, std=20)
    with torch.inference_mode():
        model.fc.bias.sub_(model(normalise(torch.from_numpy(sample_tiles(_SIDE, _SIDE, 24)))).median())
    write_checkpoint(folder / "tiny.pth", model)
    _succeed("export", folder / "tiny.pth", "--workdir", deploy)


def _make_engine(deploy: Path) -> None:
    if any(deploy.glob("*.engine")):
        return
    from engines.library import load_library

    try:
        load_library("tensorrt-rtx")
    except (UnavailableError, BuildError):
        return
    _succeed("build", "--fp16", "--gpu", "sm86", "--batch", "1,4,8", "--workdir", deploy)


def _write_published(path: Path) -> None:
    """Random weights in the published layout."""
    import torch

    from lfm_deploy.network.checkpoint import _PUBLISHED_LAYOUTS

    torch.manual_seed(1)
    torch.save(dict(_PUBLISHED_LAYOUTS[0].expected()), path)


def _make_detector(folder: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.array([[1.0], [2.0], [-3.0]], np.float32), "w")
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["logit"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "v"])]
    outputs = [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "foreign.onnx")
    (folder / "detector.toml").write_text(to_toml(DETECTOR))


def _stop_training(folder: Path) -> None:
    """A run that was stopped after three steps, and what becomes of it when it goes on."""
    from training.recipe import read_recipe
    from training.run import start_run
    from training.train import Conduct, InterruptedTrainingError

    (folder / "recipe.toml").write_text(to_toml(RECIPE))
    recipe = read_recipe(str(folder / "recipe.toml"))
    asked = iter(range(100))
    with contextlib.suppress(InterruptedTrainingError):
        start_run(recipe, folder / "stopped", conduct=Conduct(save_steps=1, should_stop=lambda: next(asked) == 2))
    shutil.copytree(folder / "stopped", folder / "finished")
    _succeed("train", "--resume", folder / "finished", "--device", "cpu", "--workers", "0")


def _note_answers(folder: Path, whole: bool) -> None:
    from lfm_deploy.artifacts import read_graph_info

    deploy = folder / "deploy"
    contract = read_graph_info(deploy / "lfm.onnx").contract
    answers: dict[str, Any] = {"workdir": json.loads(_succeed("inspect", "--json", deploy, codes=(0, 2)))}
    for engine in sorted(deploy.glob("*.engine"))[:1]:
        answers["engine"] = json.loads(_succeed("inspect", "--json", engine))
    tile = folder / "tiles" / "0.png"
    for name, path in {"published": folder / "published.pth", "checkpoint": deploy / "lfm.pth"}.items():
        answers[name] = json.loads(_succeed("predict", "--json", "--engine", path, tile))["logit"]
    if whole:
        options = ("--no-speed", "--allow-undecided", "--json", "--workdir", deploy)
        found = _succeed("verify", "--suite", folder / "suite", *options, codes=(0, 1))
        answers["report"] = json.loads(found)
        detector = ("--detector", folder / "detector.toml")
        answers["detector"] = json.loads(
            _succeed("verify", "--suite", folder / "suite", *detector, *options, codes=(0, 1))
        )
    facts = {"size": contract.size, "threshold": contract.threshold, "answers": answers}
    (folder / "right.json").write_text(json.dumps(facts))
