"""Bad checkpoints: damaged files, values that can't be, tensors of other kinds, and wrappers of all sorts."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.damage import damage
from fuzzing.misvalues import spoil_json, spoil_values
from fuzzing.rows import Wanted, judge_rows
from fuzzing.seeds import Seeds
from fuzzing.trial import Result, Trial


def make_damaged(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A checkpoint of our own with damage to its bytes."""
    content, what = damage(rng, (seeds.deploy / "lfm.pth").read_bytes())
    return _try_checkpoint(rng, seeds, folder, content, what, "checkpoint")


def make_values(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A checkpoint of our own, whole as a file, in which a value cannot be."""
    import torch

    content = torch.load(seeds.deploy / "lfm.pth", weights_only=True)
    if rng.random() < 0.6:
        plain = {key: content[key] for key in ("format", "config")}
        spoilt, what = spoil_values(rng, plain)
        changed = content | spoilt if isinstance(spoilt, dict) else spoilt
        for key in set(plain) - set(spoilt if isinstance(spoilt, dict) else plain):
            del changed[key]
    else:
        name = rng.choice(sorted(content["state"]))
        state, what = _spoil_tensor(rng, content["state"], name)
        changed = content | {"state": state}
    return _try_checkpoint(rng, seeds, folder, _saved(changed), what, "checkpoint")


def make_wrapped(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """The published layout as training scripts wrap it, or with a tensor of another kind."""
    import torch

    state = torch.load(seeds.folder / "published.pth", weights_only=True)
    name, wrap = rng.choice(_WRAPPERS)
    prefix = rng.choice(["", "module.", "_orig_mod.", "model.", "module.module."])
    known = True
    if rng.random() < 0.4:
        state, what = _spoil_tensor(rng, state, rng.choice(sorted(state)))
        known = False
    else:
        what = "whole"
    named = {prefix + key if isinstance(key, str) else key: value for key, value in state.items()}
    what = f"{name}, prefix {prefix!r}: {what}"
    trial = _try_checkpoint(rng, seeds, folder, _saved(wrap(named)), what, "published", suffix=".pth.tar")
    return replace(trial, refusable=not known)


def make_safetensors(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A safetensors file with damage in its header; nothing in it tells damage to weights."""
    import torch
    from safetensors.torch import save

    state = torch.load(seeds.folder / "published.pth", weights_only=True)
    content = save({key: value.contiguous() for key, value in state.items()})
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.3:
        spoilt, what = damage(rng, content[: 8 + length])
        changed = spoilt + rest
    elif rng.random() < 0.2:
        changed, what = content[: rng.randrange(len(content))], "cut short"
    else:
        values = json.loads(header)
        key = rng.choice(sorted(values))
        spoilt, what = spoil_json(rng, {key: values[key]}, indent=None)
        others = json.dumps({name: value for name, value in values.items() if name != key}).encode()
        joined = spoilt[:-1] + b"," + others[1:] if spoilt.endswith(b"}") else spoilt
        changed = len(joined).to_bytes(8, "little") + joined + rest
    return _try_checkpoint(rng, seeds, folder, changed, what, "published", suffix=".safetensors")


def _try_checkpoint(
    rng: Random, seeds: Seeds, folder: Path, content: bytes, what: str, right: str, suffix: str = ".pth"
) -> Trial:
    path, tile = folder / f"c{suffix}", folder / "a.png"
    path.write_bytes(content)
    tile.write_bytes(seeds.tiles[0])
    if rng.random() < 0.04:
        # The whole way: what it exports is never another network than a whole one.
        return Trial(
            arguments=["profile", f"{path}"] if rng.random() < 0.5 else ["inspect", f"{path}"],
            what=what,
            names=(path.name,),
            judge=lambda _: (Result.RIGHT, ""),
        )
    # A published network is judged at the size of the contract, whatever the workdir's is.
    return Trial(
        arguments=["predict", "--json", "--engine", f"{path}", f"{tile}"],
        what=what,
        names=(path.name,),
        judge=judge_rows([Wanted(f"{tile}", (seeds.right(right),), whole=True)], 0.0),
        codes=(0, 1),
    )


def _saved(content: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _spoil_tensor(rng: Random, state: dict[str, Any], name: str) -> tuple[Any, str]:
    """A state in which one tensor is of another kind, shape or value, and what."""
    import torch

    tensor = state[name]
    others: dict[str, Callable[[], Any]] = {
        "sparse": lambda: tensor.to_sparse(),
        "meta": lambda: torch.empty(tensor.shape, device="meta"),
        "complex": lambda: torch.complex(tensor.float(), torch.ones_like(tensor.float())),
        "int8": lambda: (tensor.float() * 100).to(torch.int8),
        "bool": lambda: tensor > 0,
        "quantised": lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        "NaN": lambda: tensor.float() * float("nan"),
        "infinite": lambda: tensor.float() + float("inf"),
        "empty": lambda: tensor.reshape(-1)[:0],
        "flat": lambda: tensor.reshape(-1),
        "one more axis": lambda: tensor[None],
        "huge stride": lambda: torch.as_strided(tensor.reshape(-1)[:1], (2**40,), (0,)),
        "expanded": lambda: tensor.reshape(-1)[:1].expand(1 << 40),
        "a number": lambda: 5,
        "a list": lambda: [1.0, 2.0],
        "None": lambda: None,
        "text": lambda: "x",
        "a dict": lambda: {"a": tensor},
    }
    kind = rng.choice(sorted(others))
    changed: dict[Any, Any] = dict(state)
    choice = rng.random()
    if choice < 0.1:
        del changed[name]
        return changed, f"without {name}"
    if choice < 0.2:
        changed[rng.choice(["extra.weight", 5, "", "fc1.weight.x"])] = tensor
        return changed, "an unknown key"
    changed[name] = others[kind]()
    return changed, f"{name} is {kind}"


_WRAPPERS: list[tuple[str, Callable[[Any], Any]]] = [
    ("plain", lambda state: state),
    ("model", lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}, "total_steps": 9}),
    ("state_dict", lambda state: {"state_dict": state, "epoch": 3}),
    ("net", lambda state: {"net": state, "acc": 91.0}),
    ("model_state_dict", lambda state: {"model_state_dict": state, "loss": 0.1}),
    ("an average beside", lambda state: {"state_dict": state, "state_dict_ema": dict(reversed(state.items()))}),
]
