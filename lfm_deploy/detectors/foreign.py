"""Foreign detectors: any ONNX network that a TOML file describes, in ONNX Runtime, on pictures as they lie on the disk.

Their scores are logits above 0 for fake, whatever the network's own answer is, so that NPR, CNNDetection and others
stand in one table with LFM. Pictures are read from the files by the detector's own contract, not from LFM's pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cpu_settings import CpuSettings, default_settings
from engines.engine import BatchSlice, fill_batch, split_batch
from engines.ort import open_session
from lfm_deploy.detectors.answers import threshold_logit, to_scores
from lfm_deploy.detectors.detector_contract import DetectorContract, read_detector_contract
from lfm_deploy.detectors.foreign_network import check_input, check_output, hash_network
from lfm_deploy.detectors.preparation import prepare_picture, to_network_input
from lfm_deploy.errors import DeployError, DetectorError, first_line
from lfm_deploy.pictures.pipeline import read_groups
from lfm_deploy.pictures.sources import file_source


@dataclass(slots=True)
class ScoredGroup:
    """Consecutive pictures of a list.

    Attributes:
        start: index in the list of the first one.
        logits: float64 ``(N,)``; not a number where there is a reason.
        reasons: why a picture has no logit, by its index in the list.
    """

    start: int
    logits: NDArray[np.float64]
    reasons: dict[int, str] = field(default_factory=dict)


class ForeignDetector:
    """A detector that a TOML file describes. One thread at a time.

    Attributes:
        name: in reports.
        contract: of the TOML file.
        path: of the network.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        place: runtime and device, as of engines.
        precision: ``"as written"`` in the network.
        sha256: of the network's file, and of those that hold its weights where they lie outside.
        threshold_logit: what was subtracted from the network's own logits; add it where a probability is wanted.
    """

    runtime = "onnxruntime"
    precision = "as written"

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
            contract: from ``read_detector_contract``.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            settings: threads and pictures at a time; None is a thread for each core.
            spin: let idle threads wait for work at full speed; False where other engines work beside this one.

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
        self._settings = settings or default_settings()
        self._session: Any = open_session(
            contract.onnx,
            str(contract.onnx),
            device=device,
            threads=self._settings.threads * self._settings.streams,
            spin=spin,
            remedy=f"{contract.path} names it: export the network again",
        )
        self._input, self._batch = check_input(self._session, contract)
        self._output = check_output(self._session, contract)
        self.sha256 = hash_network(contract.onnx)

    def score(
        self, paths: Sequence[Path], *, batch: int = 32, on_progress: Callable[[int], None] = lambda _: None
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Logits of pictures, above 0 is fake.

        Args:
            paths: of the files.
            batch: pictures at a time; the next ones are decoded in threads meanwhile.
            on_progress: called with how many are done.

        Returns:
            float64 ``(len(paths),)``, not a number where a picture has no logit; and the reasons for that by index.

        Raises:
            DetectorError: the network's answer is not what the contract says, or it fails on pictures of its own size.
        """
        logits, reasons = np.full(len(paths), np.nan), dict[int, str]()
        for group in self.score_groups(paths, batch=batch):
            logits[group.start : group.start + len(group.logits)] = group.logits
            reasons |= group.reasons
            on_progress(group.start + len(group.logits))
        return logits, reasons

    def score_groups(self, paths: Sequence[Path], *, batch: int = 32) -> Iterator[ScoredGroup]:
        """As ``score``, group after group, so that what is done can be kept; memory does not grow with the list."""
        wanted = self.contract.input
        sources = (file_source(path) for path in paths)
        for group in read_groups(
            sources, wanted.side or "native", batch=batch, decode=partial(prepare_picture, wanted)
        ):
            scored = ScoredGroup(group.start, np.full(len(group.names), np.nan))
            scored.reasons = {group.start + offset: reason for offset, reason in group.reasons.items()}
            for offsets, images in group.runs:
                self._score_run(images, offsets, scored)
            yield scored

    def fingerprint(self) -> dict[str, Any]:
        """All that a logit depends on besides the picture, as plain values for ``scorer_key``."""
        import onnxruntime
        import PIL

        return {
            "detector": self.sha256,
            "contract": self.contract.as_dict(),
            "runtime": f"{self.runtime} {onnxruntime.__version__}",
            "device": self.device,
            "pillow": PIL.__version__,
        }

    def close(self) -> None:
        """Drop the session."""
        self._session = None

    def _score_run(self, images: NDArray[np.uint8], offsets: list[int], scored: ScoredGroup) -> None:
        """Score pictures of one size into their places."""
        smallest, largest = (self._batch, self._batch) if self._batch else (1, self._settings.piece)
        for part in split_batch(len(images), smallest, largest):
            chosen = np.array(offsets[part.start : part.start + part.count])
            found = self._run(images, part)
            if isinstance(found, str):
                scored.reasons |= {scored.start + int(offset): found for offset in chosen}
                continue
            scored.logits[chosen] = found
            for offset in chosen[~np.isfinite(found)]:
                scored.logits[offset] = np.nan
                scored.reasons[scored.start + int(offset)] = "the network's answer is not a finite number"

    def _run(self, images: NDArray[np.uint8], part: BatchSlice) -> NDArray[np.float64] | str:
        """Scores of a part; a reason where the network does not take pictures of this size."""
        pixels = to_network_input(fill_batch(images, part), self.contract.input)
        try:
            output = self._session.run([self._output], {self._input: pixels})[0]
        except Exception as error:  # onnxruntime's own classes are private to its binding
            if self.contract.input.side is None:
                return f"the network does not take {images.shape[2]}x{images.shape[1]} pixels: {first_line(error)}"
            raise DetectorError(f"{self.path}: the network fails on its input: {first_line(error)}") from None
        try:
            return to_scores(np.asarray(output), self.contract.output, part.run_as)[: part.count]
        except DetectorError as error:
            raise DetectorError(f"{self.contract.path}: [output] {self._output}: {error}") from None


def open_detectors(
    paths: Sequence[Path | str], *, device: str = "cpu", settings: CpuSettings | None = None, spin: bool = True
) -> list[ForeignDetector]:
    """Open detectors by their TOML files.

    Args:
        paths: of the TOML files.
        device: as of ``ForeignDetector``.
        settings: likewise.
        spin: likewise.

    Raises:
        DetectorError: a file is wrong, or two have one name.
        ArtifactError, UnavailableError: as of ``ForeignDetector``.
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
