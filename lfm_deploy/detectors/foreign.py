"""Foreign detectors: any ONNX network that a TOML file describes, in ONNX Runtime, on pictures as they lie on the disk.

Their scores are logits above 0 for fake, whatever the network's own answer is, so that NPR, CNNDetection and others
stand in one table with LFM. Pictures are prepared by the detector's own contract, not from LFM's pixels.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cpu_settings import CpuSettings, default_settings
from engines.engine import BatchSlice, fill_batch, split_batch
from engines.guarded_run import RunFailedError
from engines.ort import open_session
from lfm_deploy.detectors.answers import threshold_logit, to_scores
from lfm_deploy.detectors.detector_contract import DetectorContract, read_detector_contract
from lfm_deploy.detectors.foreign_network import check_input, check_output, hash_network
from lfm_deploy.detectors.preparation import to_network_input
from lfm_deploy.errors import DeployError, DetectorError

_NO_NUMBER = "the network's answer is not a finite number"


class ForeignDetector:
    """A detector that a TOML file describes. One thread at a time.

    Attributes:
        name: name in reports.
        contract: contract from the TOML file.
        path: ONNX file of the network.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        settings: threads and pictures at a time on a CPU.
        runtime: ``"onnxruntime"``.
        place: runtime and device in words, such as ``"onnxruntime on cpu"``.
        precision: ``"as written"`` in the network.
        config: None, as pictures are prepared by the contract alone.
        sha256: hex digest of the network's file and of the files that hold its weights where they lie outside.
        threshold_logit: logit of the threshold, which is subtracted from the network's own logits; add it where a
            probability is wanted.
    """

    runtime = "onnxruntime"
    precision = "as written"
    config = None

    def __init__(
        self,
        contract: DetectorContract,
        *,
        device: str = "cpu",
        settings: CpuSettings | None = None,
        spin: bool = True,
    ) -> None:
        """Open a session on exactly the asked device.

        Args:
            contract: contract from ``read_detector_contract``.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            settings: threads and pictures at a time; None is a thread for each core.
            spin: whether to let idle threads wait for work at full speed; False where engines work beside it.

        Raises:
            DetectorError: the network contradicts the contract.
            ArtifactError: the network cannot be loaded.
            UnavailableError: ONNX Runtime, or its provider for this device, is missing or fell back.
        """
        self.contract = contract
        self.name = contract.name
        self.path = contract.onnx
        self.device = device
        self.place = f"{self.runtime} on {device}"
        self.threshold_logit = threshold_logit(contract.output)
        self.settings = settings or default_settings()
        self._session: Any = open_session(
            contract.onnx,
            str(contract.onnx),
            device=device,
            threads=self.settings.threads * self.settings.streams,
            spin=spin,
            remedy=f"{contract.path} names it: export the network again",
        )
        self._input, self._batch = check_input(self._session, contract)
        self._output = check_output(self._session, contract)
        self.sha256 = hash_network(contract.onnx)

    def logits(self, images: NDArray[np.uint8]) -> list[float | str]:
        """Judge pictures of one size that were prepared by ``prepare_picture``.

        Args:
            images: uint8 ``(N, H, W, 3)``, RGB, resized and cropped as the contract says.

        Returns:
            One entry a picture: its logit in float64, above 0 for fake, or the reason why there is none.

        Raises:
            DetectorError: the network's answer is not what the contract says, or it fails on pictures of its own size.
        """
        smallest, largest = (self._batch, self._batch) if self._batch else (1, self.settings.piece)
        found: list[float | str] = []
        for part in split_batch(len(images), smallest, largest):
            scores = self._run(images, part)
            if isinstance(scores, str):
                found += [scores] * part.count
                continue
            found += [score if math.isfinite(score) else _NO_NUMBER for score in scores.tolist()]
        return found

    def close(self) -> None:
        """Drop the session."""
        self._session = None

    def _run(self, images: NDArray[np.uint8], part: BatchSlice) -> NDArray[np.float64] | str:
        """Scores of a part; a reason where the network does not take pictures of this size."""
        pixels = to_network_input(fill_batch(images, part), self.contract.input)
        try:
            output = self._session.run([self._output], {self._input: pixels})[0]
        except RunFailedError as error:
            if self.contract.input.side is None:
                return f"the network does not take {images.shape[2]}x{images.shape[1]} pixels: {error.reason}"
            raise DetectorError(f"{self.path}: the network fails on its input: {error.reason}") from None
        try:
            return to_scores(np.asarray(output), self.contract.output, part.run_as)[: part.count]
        except DetectorError as error:
            raise DetectorError(f"{self.contract.path}: [output] {self._output}: {error}") from None


def open_detectors(
    paths: Sequence[Path | str], *, device: str = "cpu", settings: CpuSettings | None = None, spin: bool = True
) -> list[ForeignDetector]:
    """Open detectors by their TOML files.

    Args:
        paths: TOML files, one a detector.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, for all of them.
        settings: threads and pictures at a time; None is a thread for each core.
        spin: whether to let idle threads wait for work at full speed; False where engines work beside them.

    Raises:
        DetectorError: a TOML file is bad or contradicts its network, or two have one name.
        ArtifactError: a network cannot be loaded.
        UnavailableError: ONNX Runtime, or its provider for this device, is missing or fell back.
    """
    contracts = [read_detector_contract(path) for path in paths]
    first: dict[str, Path] = {}
    for contract in contracts:
        if contract.name in first:
            raise DetectorError(
                f"{contract.path}: name is {contract.name!r}, as in {first[contract.name]}; give each a name of its own"
            )
        first[contract.name] = contract.path
    opened: list[ForeignDetector] = []
    try:
        for contract in contracts:
            opened.append(ForeignDetector(contract, device=device, settings=settings, spin=spin))
    except DeployError:
        for detector in opened:
            detector.close()
        raise
    return opened
