"""Which network a checkpoint holds, however training scripts wrap it.

Scripts save weights under a key (``model``, ``state_dict``, ``net``, ...) beside optimisers and counters, and wrappers
put words in front of every name: ``module.`` (DataParallel), ``_orig_mod.`` (torch.compile), ``model.`` (Lightning).
Each pair of a place in the file and a prefix under which a linear layer ``fc1`` stands is a network. An average of the
weights is often saved beside them; it is told by its name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lfm_deploy.errors import CheckpointError

_ANCHOR = "fc1.weight"  # what every published layout has
_COMPILED = "_orig_mod."
_DEEPEST = 4
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|avg|average|averaged|swa|shadow)(?:$|[._])")
# What profilers and averaging put among the weights: counters of theirs, no part of the network.
_COUNTERS = frozenset({"total_ops", "total_params", "n_averaged"})
_BATCHES = ".num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class FoundNetwork:
    """Weights under one key and prefix of a file.

    Attributes:
        keys: keys of the dicts that lead to the weights; empty where they lie at the top.
        prefix: letters in front of every name, such as ``"module."``.
        state: name without the prefix, and tensor.
        left_out: names beside them that belong to no network.
    """

    keys: tuple[str, ...]
    prefix: str
    state: dict[str, Any]
    left_out: tuple[str, ...]

    @property
    def averaged(self) -> bool:
        """Whether the names say that these are averages of weights."""
        averaging = any(name.rpartition(".")[2] == "n_averaged" for name in self.left_out)
        return averaging or any(_AVERAGED.search(name.lower()) for name in (*self.keys, self.prefix))

    @property
    def place(self) -> str:
        """Where in the file it stands, for messages; empty where names are as published."""
        where = [f"key {'.'.join(self.keys)!r}"] if self.keys else []
        return ", ".join([*where, *([f"prefix {self.prefix!r}"] if self.prefix else [])])


def take_network(content: Mapping[Any, Any], where: Path, *, ema: bool = False) -> tuple[dict[str, Any], str]:
    """The weights of a file, and what was taken, for a message; empty where there was nothing to choose.

    Args:
        content: dict that the file holds.
        where: the file, for messages.
        ema: whether to take the average of weights instead of the weights themselves.

    Raises:
        CheckpointError: there are several networks, or with ``ema`` no average.
    """
    found = list(_find_networks(content, (), set()))
    if not found:
        return dict(content), ""
    wanted = [network for network in found if network.averaged == ema]
    if ema and not wanted:
        raise CheckpointError(f"{where}: holds no average of weights beside them; leave --ema out")
    chosen = wanted or found  # an average alone is what the file is for
    if len(chosen) > 1:
        places = "; ".join(network.place or "the top" for network in chosen)
        raise CheckpointError(f"{where}: holds {len(chosen)} networks ({places}); save the one to deploy by itself")
    return chosen[0].state, _describe(chosen[0], found)


def fill_counters(state: Mapping[str, Any], expected: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The state with batch norm's counters, which older PyTorch and converters leave out, and inference never reads."""
    missing = {name for name in set(expected) - set(state) if name.endswith(_BATCHES)}
    return dict(state) | {name: torch.zeros_like(expected[name]) for name in missing}


def _find_networks(content: Mapping[Any, Any], keys: tuple[str, ...], seen: set[int]) -> Iterator[FoundNetwork]:
    """Every network of a dict and of the dicts in it; ``seen`` are those on the way: a pickle can make a circle."""
    if len(keys) > _DEEPEST or id(content) in seen:
        return
    names = {name.replace(_COMPILED, ""): value for name, value in content.items() if isinstance(name, str)}
    prefixes = {name.removesuffix(_ANCHOR) for name in names if name == _ANCHOR or name.endswith(f".{_ANCHOR}")}
    for prefix in sorted(prefixes):
        others = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
        inside = {
            name.removeprefix(prefix): value
            for name, value in names.items()
            if name.startswith(prefix) and not (others and name.startswith(others))
        }
        if not prefix:  # beside names as published, dicts and numbers are no weights
            inside = {name: value for name, value in inside.items() if not isinstance(value, Mapping)}
        state = {name: value for name, value in inside.items() if name.rpartition(".")[2] not in _COUNTERS}
        beside = [name for name in names if not name.startswith(tuple(prefixes))] if prefix else []
        left_out = tuple(sorted([*beside, *(name for name in inside if name not in state)]))
        yield FoundNetwork(keys=keys, prefix=prefix, state=state, left_out=left_out)
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _find_networks(value, (*keys, str(name)), seen | {id(content)})


def _describe(chosen: FoundNetwork, found: list[FoundNetwork]) -> str:
    parts = [chosen.place] if chosen.place else []
    if chosen.averaged:
        parts.append("which averages weights" if len(found) > 1 else "averaged weights, as it holds no others")
    if chosen.left_out:
        more = f" and {len(chosen.left_out) - 1} more" if len(chosen.left_out) > 1 else ""
        parts.append(f"without {chosen.left_out[0]}{more}")
    others = [network.place or "the top" for network in found if network is not chosen]
    if others:
        parts.append(f"not what stands under {'; '.join(others)}")
    return ", ".join(parts)
