"""What kernels of our own were made from: logits depend on it, and so does code that was compiled and kept."""

import functools
import hashlib
from pathlib import Path


@functools.cache
def hash_kernels(folder: str) -> str:
    """SHA-256 over the sources of a folder of kernels.

    Args:
        folder: name of the folder beside this file, ``"kernels"`` (Triton, for GPUs) or ``"amx"``.
    """
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / folder).glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
