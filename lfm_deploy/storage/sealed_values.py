"""JSON files that prove themselves: beside its values, such a file has the SHA-256 of them.

A changed digit is damage then, however well it would fit. White space and the order of keys do not count.
"""

import json
from collections.abc import Mapping
from typing import Any

from lfm_deploy.storage.atomic import sha256_of_bytes
from lfm_deploy.storage.values import Reader

_KEY = "content_sha256"


def seal_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their digest, as the last key.

    Args:
        values: plain values of a whole file, all numbers finite.
    """
    return {**values, _KEY: _digest(values)}


def take_seal(values: dict[str, Any], reader: Reader) -> None:
    """Take the digest out of the values of a file, and compare it.

    Args:
        values: values as ``Reader.parse_json`` gives them; they lose the digest.
        reader: reader of the file.

    Raises:
        DeployError: the digest is missing or of other values; of the reader's class.
    """
    if values.pop(_KEY, None) != _digest(values):
        reader.refuse("damaged or changed since it was made (its check sum does not hold)")


def _digest(values: Mapping[str, Any]) -> str:
    return sha256_of_bytes(json.dumps(values, sort_keys=True, allow_nan=False).encode())
