"""What Triton's Python backend runs for ``lfm_jpeg``: bytes of pictures in, the rows of ``predict`` out.

``lfm_jpeg/1/model.py`` of a model repository is one import of this class; Triton's Python needs lfm-deploy installed.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lfm_deploy.deployment.golden import check_logit
from lfm_deploy.errors import DeployError
from lfm_deploy.pictures.decoding import Source
from lfm_deploy.prediction.judges import Judge, open_judge
from lfm_deploy.prediction.prediction import predict_groups
from lfm_deploy.prediction.rows import Prediction, RowFormat, write_rows
from lfm_deploy.serving.warm_up import find_golden
from lfm_deploy.workdir import Workdir

GRAPH = "lfm.onnx"
_UNNAMED = "picture"


class TritonPythonModel:
    """A model of Triton's Python backend, which calls these three methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph beside ``model.py`` and give the golden pictures their logits.

        Raises:
            DeployError: the graph cannot be opened, or does not give the logits that it should; Triton shows the
                message and does not load the model.
        """
        warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; what matters is an error in its row
        folder = Path(args["model_repository"]) / args["model_version"]
        self._judge = open_judge(Workdir(folder), engine=folder / GRAPH, device="cpu")
        golden = find_golden(self._judge)
        files = [(picture.name, picture.content) for picture in golden.pictures]
        for picture, row in zip(golden.pictures, judge_files(self._judge, files), strict=True):
            if row.logit is None:
                raise DeployError(f"cannot judge the golden picture {picture.name}: {row.error}")
            check_logit(picture, row.logit, str(self._judge.engine.precision), str(self._judge.path))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, all their pictures together."""
        import triton_python_backend_utils as backend  # of Triton; there is none elsewhere

        asked = [_read_request(backend, request) for request in requests]
        rows = iter(judge_files(self._judge, [file for files in asked for file in files]))
        return [_write_answer(backend, [next(rows) for _ in files]) for files in asked]

    def finalize(self) -> None:
        """Free what the engine holds."""
        self._judge.engine.close()


def judge_files(judge: Judge, files: list[tuple[str, bytes]]) -> list[Prediction]:
    """Rows of pictures, by the same way as ``predict`` takes.

    Args:
        judge: engine with its settings.
        files: name and bytes of each picture.
    """
    sources = (Source(name, lambda content=content: content) for name, content in files)  # type: ignore[misc]
    return [row for group in predict_groups(judge, sources) for row in group]


def _read_request(backend: Any, request: Any) -> list[tuple[str, bytes]]:
    contents = backend.get_input_tensor_by_name(request, "picture").as_numpy().ravel()
    names = backend.get_input_tensor_by_name(request, "name")
    if names is None:
        return [(_UNNAMED, content) for content in contents]
    texts = [name.decode(errors="surrogateescape") for name in names.as_numpy().ravel()]
    return list(zip(texts, contents, strict=True))


def _write_answer(backend: Any, rows: list[Prediction]) -> Any:
    lines = write_rows(rows, RowFormat.JSONL).splitlines()
    columns = {
        "row": np.array(lines, dtype=np.object_),
        "verdict": np.array([(row.verdict or "").encode() for row in rows], dtype=np.object_),
        "logit": np.array([np.nan if row.logit is None else row.logit for row in rows], dtype=np.float32),
    }
    tensors = [backend.Tensor(name, values.reshape(-1, 1)) for name, values in columns.items()]
    return backend.InferenceResponse(output_tensors=tensors)
