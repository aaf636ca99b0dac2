"""What a verification is to do."""

import math
from dataclasses import dataclass
from pathlib import Path

from engines.devices import parse_device, split_devices
from lfm_deploy.errors import ConfigError
from lfm_deploy.pictures.decoders import DECODERS
from lfm_deploy.quantisation import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What ``verify`` is to do.

    Attributes:
        device: device that PyTorch and ONNX Runtime run on: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; several GPUs with
            commas between.
        strict: whether a picture that cannot be read is an error instead of a line in the report.
        batch: most pictures that are judged at a time.
        speed_seconds: least time in seconds for each speed figure; 0 measures none.
        limits: limits that FP16, BF16 and INT8 are held to; None is what each has by itself.
        decoders: names of the decoders to judge against Pillow, which decodes for all engines.
        detectors: TOML files of foreign detectors to put beside the engines.
        compiled: whether the checkpoint compiled by ``torch.compile`` is judged and measured, too.
        envelope: whether to measure how one engine decides after other treatments of the pictures, too.
        aligned: whether to measure how one engine decides once the fakes are stored as the real pictures of their set.
        envelope_engine: name of that engine in reports, for the envelope and for aligned fakes; None is the FP32 graph.
        use_cache: whether logits and speeds of earlier runs are taken from the workdir's ``scores.sqlite``, and those
            of this run kept there.

    Raises:
        ConfigError: a value is out of range, or has no effect.
    """

    device: str = "cpu"
    strict: bool = False
    batch: int = 32
    speed_seconds: float = 1.0
    limits: Budget | None = None
    decoders: tuple[str, ...] = ()
    detectors: tuple[Path, ...] = ()
    compiled: bool = False
    envelope: bool = False
    aligned: bool = False
    envelope_engine: str | None = None
    use_cache: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        for one in split_devices(self.device):
            parse_device(one)
        for name in self.decoders:
            if name not in DECODERS or self.decoders.count(name) > 1:
                raise ConfigError(f"decoders is {self.decoders!r}, expected each once of {', '.join(DECODERS)}")
        if self.batch < 1:
            raise ConfigError(f"batch is {self.batch}, expected 1 picture or more at a time")
        if not (math.isfinite(self.speed_seconds) and self.speed_seconds >= 0):
            raise ConfigError(f"speed_seconds is {self.speed_seconds}, expected 0 to measure no speed, or more")
        if self.envelope_engine is not None and not (self.envelope or self.aligned):
            raise ConfigError(
                f"envelope_engine is {self.envelope_engine!r}, which has no effect without envelope=True or "
                "aligned=True; set one of them, too"
            )
