"""What a checkpoint file holds: PyTorch's zip, its older pickle, or safetensors; read without running code.

``torch.load`` skips the check sums of its zip, so that a weight with a flipped bit would be taken for what was trained.
Here they are compared first.
"""

import json
import pickle
import warnings
import zipfile
from pathlib import Path

import torch

from lfm_deploy.artifacts import CHECKPOINT_SUFFIXES
from lfm_deploy.errors import CheckpointError, first_line, is_out_of_memory

_HEADER_BYTES = 8  # of safetensors: the length of the JSON that follows
_MOST_HEADER = 100 << 20


def is_torch_file(path: Path) -> bool:
    """Whether ``torch.load`` reads it, other than safetensors.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return not _is_safetensors(_read_head(path))


def load_tensors(path: Path) -> object:
    """The content of a checkpoint file: usually a dict, of tensors or of further dicts.

    Args:
        path: a file of any name.

    Raises:
        CheckpointError: the file is missing, empty, damaged, holds code or a TorchScript program, or is no checkpoint.
    """
    head = _read_head(path)
    if head.startswith(b"PK"):
        _check_zip(path)
    if _is_safetensors(head):
        return _load_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd pickles, which end as errors below
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch.load lets many kinds escape from a damaged file
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from None
        if head.startswith(b"PK") and not isinstance(error, pickle.UnpicklingError):
            raise _damaged(path, first_line(error).partition(". ")[0]) from None
        if head.startswith((b"PK", b"\x80")):
            raise CheckpointError(
                f"{path}: holds pickled objects other than tensors, which can run code when loaded, or is damaged; "
                "save the model's state_dict() instead"
            ) from None
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint; give the file itself ({' '.join(CHECKPOINT_SUFFIXES)})"
        ) from None


def _read_head(path: Path) -> bytes:
    """The first bytes of a file, after refusing what cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise CheckpointError(f"{path}: no such file; give the path of a .pth checkpoint") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(f"{path}: cannot be read: {reason}; give the path of a .pth checkpoint") from None
    if not head:
        raise CheckpointError(f"{path}: the file is empty; copy the checkpoint again")
    return head


def _check_zip(path: Path) -> None:
    """Refuse a zip that is damaged, or not what ``torch.save`` writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any("/code/" in member.filename or member.filename.endswith("/constants.pkl") for member in members):
                raise CheckpointError(
                    f"{path}: a TorchScript program, which holds code; save the state_dict() of its module instead"
                )
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise CheckpointError(
                    f"{path}: a compressed zip, which torch.save does not write; unpack the .pth file from it"
                )
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise _damaged(path, first_line(error)) from None
    if broken is not None:
        raise _damaged(path, f"the check sum of {broken} does not hold")


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: damaged ({what}); copy it again")


def _is_safetensors(head: bytes) -> bool:
    return int.from_bytes(head[:_HEADER_BYTES], "little") <= _MOST_HEADER and head[_HEADER_BYTES:] == b"{"


def _load_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise _damaged(path, first_line(error)) from None
