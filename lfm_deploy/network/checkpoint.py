"""Reading and writing checkpoints: the published layouts of LFM and NPR and our own, never with code in them."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from lfm_deploy.config import LFM as LFM_CONFIG
from lfm_deploy.config import NPR as NPR_CONFIG
from lfm_deploy.config import ModelConfig, complete_config
from lfm_deploy.errors import CheckpointError
from lfm_deploy.network.checkpoint_file import load_tensors
from lfm_deploy.network.model import LFM
from lfm_deploy.network.wrapping import fill_counters, take_network
from lfm_deploy.storage.atomic import sha256_of_bytes, sha256_of_file, write_atomically
from lfm_deploy.storage.values import Reader

FORMAT = "lfm-deploy checkpoint 1"

_FIXED_KERNELS = ("downsample_conv.weight", "upsample_conv.weight")


@dataclass(frozen=True, kw_only=True, eq=False)
class _PublishedLayout:
    """The keys of a network in the files that its authors publish.

    Attributes:
        title: name of the network, for people.
        config: architecture of the network; that LFM's values come in descending order is a fact of its file.
        prefixes: prefixes of the keys in the file, with ours; the first that fits counts.
        kernels: whether NPR is in the file too, as one-hot convolutions.
        example: some keys of the file, for messages.
    """

    title: str
    config: ModelConfig
    prefixes: dict[str, str]
    kernels: bool
    example: str

    def own_name(self, published: str) -> str:
        """What a key of theirs is called here."""
        return _renamed(published, self.prefixes.items())

    def expected(self) -> dict[str, Tensor]:
        """The state dict of a file of this layout, with other numbers in it."""
        ours = [(own, published) for published, own in self.prefixes.items()]
        named = {_renamed(key, ours): value for key, value in LFM(self.config).state_dict().items()}
        return named | (dict(zip(_FIXED_KERNELS, _expected_kernels(), strict=True)) if self.kernels else {})


_PUBLISHED_LAYOUTS = (
    _PublishedLayout(
        title="LFM",
        config=LFM_CONFIG,
        prefixes={"cnn.": "snet.", "covn1_1.": "projection.", "fc1.": "fc."},
        kernels=True,
        example="cnn.layer1.0.weight, covn1_1.weight, fc1.weight",
    ),
    _PublishedLayout(
        title="NPR",
        config=NPR_CONFIG,
        prefixes={"fc1.": "fc.", "": "resnet50."},
        kernels=False,
        example="conv1.weight, layer1.0.conv1.weight, layer2.3.bn3.weight, fc1.weight",
    ),
)
PUBLISHED_CONFIG = LFM_CONFIG


class _Header(TypedDict):
    """What a file of our own layout holds beside the weights."""

    config: ModelConfig
    recipe: dict[str, Any]
    metrics: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network and what is known about it.

    Attributes:
        config: architecture of the network.
        state: state dict of ``LFM(config)``, float32 on the CPU.
        layout: ``"published"`` or ``"lfm-deploy"``.
        sha256: SHA-256 of the file that was read.
        recipe: values of the training recipe, as far as the file has them.
        metrics: figures that were reached in training, as far as the file has them.
        taken: words for which part of the file these weights are; empty where the file holds nothing else.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    layout: str
    sha256: str
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    taken: str = ""

    def build_model(self) -> LFM:
        """The network in evaluation mode, float32 on the CPU."""
        model = LFM(self.config)
        model.load_state_dict(self.state)
        return model.eval().requires_grad_(False)


def read_checkpoint(path: Path | str, *, ema: bool = False) -> Checkpoint:
    """Read a checkpoint without running code from it, as ``torch.save`` or safetensors wrote it.

    Weights may lie under a key (``model``, ``state_dict``, ...) and have prefixes (``module.``, ``model.``, ...).

    Args:
        path: path of the file.
        ema: whether to take the average of weights that the file holds beside them.

    Raises:
        CheckpointError: the file is missing, empty, damaged, holds code, or is of another network; the
            message names the keys that are missing, unexpected or misshapen.
    """
    path = Path(path)
    loaded = load_tensors(path)
    if not isinstance(loaded, dict) or not loaded:
        raise CheckpointError(f"{path}: holds a {type(loaded).__name__}, expected the state dict of an LFM network")
    if loaded.get("format") == FORMAT:
        if ema:
            raise CheckpointError(f"{path}: holds no average of weights beside them; leave --ema out")
        return _read_own(path, loaded)
    state, taken = take_network(loaded, path, ema=ema)
    return _read_published(path, state, _recognise(path, state), taken)


def write_checkpoint(
    path: Path | str, model: LFM, *, recipe: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None
) -> None:
    """Write a ``.pth`` file in our own layout, whole or not at all.

    Args:
        path: path of the file; a file there is overwritten.
        model: network whose weights and architecture are written.
        recipe: training recipe as plain values; None leaves it out.
        metrics: figures reached in training as plain values; None leaves them out.
    """
    with write_atomically(Path(path)) as temporary:
        torch.save(_own_content(model, recipe or {}, metrics or {}), temporary)


def copy_as_own(checkpoint: Checkpoint) -> tuple[Checkpoint, bytes]:
    """A checkpoint in our own layout, and the bytes of its file; its recipe says what it was taken from."""
    recipe = {**checkpoint.recipe, "taken from": checkpoint.sha256, "taken": checkpoint.taken}
    buffer = io.BytesIO()
    torch.save(_own_content(checkpoint.build_model(), recipe, checkpoint.metrics), buffer)
    content = buffer.getvalue()
    return replace(checkpoint, layout="lfm-deploy", recipe=recipe, sha256=sha256_of_bytes(content)), content


def _own_content(model: LFM, recipe: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "config": model.config.as_dict(),
        "state": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
        "recipe": recipe,
        "metrics": metrics,
    }


def _read_own(path: Path, content: dict[str, Any]) -> Checkpoint:
    where = f"{path}: an lfm-deploy checkpoint with a bad header"
    reader = Reader(where=where, remedy="copy the checkpoint again", error=CheckpointError)
    state = content.get("state")
    header = {key: value for key, value in content.items() if key not in ("format", "state")}
    reader.check_plain(header)
    found = reader.convert(header | {"config": complete_config(header.get("config"))}, _Header)
    config, recipe, metrics = found["config"], found["recipe"], found["metrics"]
    with torch.device("meta"):  # nothing is allocated for a network that the file does not hold
        expected = LFM(config).state_dict()
    if not isinstance(state, dict):
        reader.refuse(f"its state is a {type(state).__name__}, expected a dict of tensors")
    _check_keys(path, state, expected, "LFM")
    return Checkpoint(
        config=config,
        state=state,
        layout="lfm-deploy",
        sha256=sha256_of_file(path),
        recipe=recipe,
        metrics=metrics,
    )


def _recognise(path: Path, content: dict[str, Any]) -> _PublishedLayout:
    """The published layout that most keys of a file belong to."""
    shared = {layout: len(set(content) & set(layout.expected())) for layout in _PUBLISHED_LAYOUTS}
    best = max(_PUBLISHED_LAYOUTS, key=lambda layout: shared[layout])
    # Both have the linear layer's two keys.
    if shared[best] <= 2:
        known = "; or ".join(f"{layout.title} ({layout.example}, ...)" for layout in _PUBLISHED_LAYOUTS)
        found = _shortened(sorted(str(key) for key in content))
        raise CheckpointError(f"{path}: not a checkpoint of a known network: expected {known}; found {found}")
    return best


def _read_published(path: Path, state: dict[str, Any], layout: _PublishedLayout, taken: str) -> Checkpoint:
    content = fill_counters(state, layout.expected())
    _check_keys(path, content, layout.expected(), layout.title)
    for name, kernel in zip(_FIXED_KERNELS, _expected_kernels(), strict=True) if layout.kernels else ():
        if not torch.equal(content[name], kernel):
            raise CheckpointError(
                f"{path}: {name} is not the one-hot kernel of NPR, so this network computes something else; "
                "only checkpoints with the published NPR can be deployed"
            )
    ours = {
        layout.own_name(name): tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in content.items()
        if name not in _FIXED_KERNELS
    }
    return Checkpoint(config=layout.config, state=ours, layout="published", sha256=sha256_of_file(path), taken=taken)


def _expected_kernels() -> tuple[Tensor, Tensor]:
    """The published NPR as convolutions: take the top-left pixel of a 2x2 block; spread it over the block.

    Both have the shape ``(3, 3, 2, 2)`` and keep the channels apart.
    """
    same_channel = torch.eye(3).view(3, 3, 1, 1)
    top_left = torch.zeros(2, 2)
    top_left[0, 0] = 1
    return same_channel * top_left, same_channel * torch.ones(2, 2)


def _renamed(key: str, prefixes: Iterable[tuple[str, str]]) -> str:
    """A key with the first prefix that fits replaced."""
    for old, new in prefixes:
        if key.startswith(old):
            return new + key.removeprefix(old)
    raise AssertionError(f"a checked key has no name in the other layout: {key}")


def _check_keys(path: Path, found: object, expected: dict[str, Tensor], title: str) -> None:
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: its state is a {type(found).__name__}, expected a dict of tensors")
    problems = []
    if missing := sorted(set(expected) - set(found)):
        problems.append(f"missing {_shortened(missing)}")
    if unexpected := sorted(str(key) for key in set(found) - set(expected)):
        problems.append(f"unexpected {_shortened(unexpected)}")
    common = sorted(set(expected) & set(found))
    if odd := [f"{name} is {kind}" for name in common if (kind := _odd_kind(found[name], expected[name]))]:
        raise CheckpointError(f"{path}: holds no plain weights: {_shortened(odd)}; save float tensors of the CPU")
    misshapen = [
        f"{name} is {_describe(found[name])}, expected {tuple(expected[name].shape)}"
        for name in common
        if not isinstance(found[name], Tensor) or found[name].shape != expected[name].shape
    ]
    if misshapen:
        problems.append(f"misshapen: {_shortened(misshapen)}")
    elif broken := [name for name in common if not bool(torch.isfinite(found[name]).all())]:
        problems.append(f"NaN or infinite values in {_shortened(broken)}")
    if problems:
        raise CheckpointError(f"{path}: not a checkpoint of {title}: {'; '.join(problems)}")


def _odd_kind(value: object, expected: Tensor) -> str | None:
    """What keeps a tensor from being plain numbers in memory; None where nothing does."""
    if not isinstance(value, Tensor):
        return None
    if value.is_meta:
        return "a meta tensor, which has no values"
    if value.layout is not torch.strided:
        return f"sparse ({str(value.layout).removeprefix('torch.')})"
    if value.is_quantized:
        return f"quantised ({str(value.dtype).removeprefix('torch.')})"
    if value.is_complex():
        return f"complex ({str(value.dtype).removeprefix('torch.')})"
    if expected.is_floating_point() and not value.is_floating_point():
        return f"of whole numbers ({str(value.dtype).removeprefix('torch.')})"
    return None


def _describe(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _shortened(names: list[str], limit: int = 4) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
