"""Parameters and multiply-adds of a network, layer by layer, and how they stand to what the paper says.

The paper states 0.72 M parameters and 1.61 G operations for LFM, 1.44 M and 2.30 G for NPR, at 256 pixels, and not how
they were counted. Multiply-adds of convolutions and linear layers are 1.575 G and 2.243 G. Both of the paper's figures
come out where, besides, each value that a batch norm normalises counts as 5 operations, which is how fvcore counts a
network that was not put into evaluation mode. In an exported graph batch norms are part of the convolutions and cost
nothing.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lfm_deploy.artifacts import is_checkpoint, read_graph_info
from lfm_deploy.config import NAMED, ModelConfig
from lfm_deploy.deployment.graph_work import LayerWork, count_layers
from lfm_deploy.errors import ConfigError, InputError
from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.model import LFM, check_size

PAPER_SIDE = 256
OPERATIONS_PER_NORMALISED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFigures:
    """What the paper states of a network: parameters in millions, operations in billions, at 256 pixels."""

    parameters_m: float
    operations_g: float


PAPER = {
    "lfm": PaperFigures(parameters_m=0.72, operations_g=1.61),
    "npr": PaperFigures(parameters_m=1.44, operations_g=2.30),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One figure of the paper beside what was counted.

    Attributes:
        what: name of what is counted.
        counted: exact count.
        paper: figure as the paper states it, in ``unit``.
        unit: number that the paper's figure is a multiple of.
        agrees: whether the count rounds to the paper's figure.
        why: reason why the two agree, or do not.
    """

    what: str
    counted: int
    paper: float
    unit: float
    agrees: bool
    why: str

    @property
    def difference(self) -> float:
        """Of the count to the paper's figure, as a fraction of that."""
        return self.counted / (self.paper * self.unit) - 1


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A network for one picture of ``side`` pixels.

    Attributes:
        source: path of the file, or name of the architecture.
        config: architecture of the network.
        side: side of the square picture in pixels.
        layers: layers in the order in which they run.
        rewritten: whether the source is an INT8 graph, whose layers compute otherwise than the network's.
    """

    source: str
    config: ModelConfig
    side: int
    layers: tuple[LayerWork, ...]
    rewritten: bool = False

    @property
    def parameters(self) -> int:
        """Of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of all layers."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def normalised(self) -> int:
        """Values that pass a batch norm."""
        return sum(layer.normalised for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": self.source,
            "config": self.config.as_dict(),
            "side": self.side,
            "layers": [asdict(layer) | {"output": list(layer.output)} for layer in self.layers],
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "normalised_values": self.normalised,
            "paper": [asdict(row) | {"difference": row.difference} for row in compare_with_paper(self)],
        }


def profile_artifact(path: Path, side: int) -> Profile:
    """The profile of a checkpoint, or of an ONNX file of this project as it is, with batch norms folded.

    Raises:
        InputError: the file is neither a checkpoint nor a graph, or not made for pictures of this size.
    """
    if path.suffix == ".onnx":
        return _profile_graph(path, side)
    if not is_checkpoint(path):
        raise InputError(f"{path}: not a network that can be profiled; expected a .pth or .onnx file")
    return profile_config(read_checkpoint(path).config, side, str(path))


def profile_config(config: ModelConfig, side: int, source: str) -> Profile:
    """The profile of an architecture, counted while it runs on shapes alone.

    Raises:
        ShapeError: the architecture is not defined for pictures of this size.
    """
    check_size(config, side, side)
    with torch.device("meta"):
        network, picture = LFM(config).eval(), torch.zeros(1, 3, side, side)
    found: list[LayerWork] = []
    names = iter((*config.layers, "fc"))

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if isinstance(module, nn.BatchNorm2d):  # part of the convolution in front of it
            layer = found.pop()
            parameters, products, normalised = parameters + layer.parameters, layer.multiply_adds, output.numel()
            name = layer.name
        else:
            weight = module.get_parameter("weight")
            products, normalised, name = output.numel() * weight[0].numel(), 0, next(names)
        shape = tuple(output.shape[1:])
        layer = LayerWork(name=name, output=shape, parameters=parameters, multiply_adds=products, normalised=normalised)
        found.append(layer)

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(picture)
    return Profile(source=source, config=config, side=side, layers=tuple(found))


def _profile_graph(path: Path, side: int) -> Profile:
    info = read_graph_info(path)
    if info.contract.size not in ("native", side):
        raise ConfigError(f"{path}: made for pictures of {info.contract.size} pixels; use --size {info.contract.size}")
    check_size(info.config, side, side)
    features = info.config.features
    last = LayerWork(name="fc", output=(1,), parameters=features + 1, multiply_adds=features)
    layers, rewritten = (*count_layers(path, side), last), info.quantisation is not None
    return Profile(source=str(path), config=info.config, side=side, layers=layers, rewritten=rewritten)


def compare_with_paper(profile: Profile) -> list[Agreement]:
    """Each figure of the paper beside what was counted; none for other networks and sizes, and for INT8."""
    name = next((name for name, config in NAMED.items() if config == profile.config), None)
    if name is None or profile.side != PAPER_SIDE or profile.rewritten:
        return []
    paper, folded = PAPER[name], not profile.normalised
    rounded = round(profile.parameters / 1e6, 2)
    parameters = f"rounds to {rounded:.2f} M"
    if folded:
        parameters += "; batch norms are folded into the convolutions"
    elif rounded != paper.parameters_m and profile.parameters // 10_000 / 100 == paper.parameters_m:
        parameters += f"; the paper's {paper.parameters_m:.2f} M is cut, not rounded"
    work = "convolutions and the linear layer alone"
    rows = [
        _agree("parameters", profile.parameters, paper.parameters_m, 1e6, parameters),
        _agree("multiply-adds", profile.multiply_adds, paper.operations_g, 1e9, work),
    ]
    if not folded:
        counted = profile.multiply_adds + OPERATIONS_PER_NORMALISED * profile.normalised
        norms = f"with {OPERATIONS_PER_NORMALISED} for each value in a batch norm, as fvcore counts in training mode"
        rows.append(_agree("operations", counted, paper.operations_g, 1e9, norms))
    return rows


def _agree(what: str, counted: int, paper: float, unit: float, why: str) -> Agreement:
    agrees = round(counted / unit, 2) == paper
    return Agreement(what=what, counted=counted, paper=paper, unit=unit, agrees=agrees, why=why)
