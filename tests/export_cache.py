"""Exports of PyTorch that are kept for all test processes: the same network and options give the same graph.

An export takes a second or two, and half of those that the tests ask for have been made before. That it really gives
the same bytes is a test of its own (test_graph.py), which gets none of these.
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import torch

from export.graph import ExportConfig
from export.inference import InferenceForm
from lfm_deploy.config import ModelConfig

Export = Callable[[InferenceForm, ExportConfig, ModelConfig], onnx.ModelProto]


def keep_exports(export: Export, make_once: Callable[[str, Callable[[Path], None]], Path]) -> Export:
    """The function ``export``, which is called once for each network and options."""

    @functools.wraps(export)
    def look_up(form: InferenceForm, config: ExportConfig, model: ModelConfig) -> onnx.ModelProto:
        def fill(folder: Path) -> None:
            (folder / "export.onnx").write_bytes(export(form, config, model).SerializeToString())

        # The threshold is stamped on it later.
        digest = hashlib.sha256(repr((replace(config, decided=None), model)).encode())
        for name, tensor in sorted(form.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
        return onnx.load(make_once(f"export {digest.hexdigest()[:32]}", fill) / "export.onnx")

    return look_up
