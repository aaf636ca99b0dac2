import json

import pytest

from lfm_deploy.errors import ArtifactError
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.values import Reader

VALUES = {"format": "f 1", "a": [0.1, 1e-300, 3], "b": {"c": "é", "d": None}}
READER = Reader(where="x.json", remedy="make it again")


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"sort_keys": True, "ensure_ascii": False}])
def test_layout_does_not_count(layout):
    values = READER.parse_json(json.dumps(seal_values(VALUES), **layout))
    take_seal(values, READER)
    assert values == VALUES


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["a"].__setitem__(0, 0.1000001),
        lambda v: v["a"].reverse(),
        lambda v: v["b"].update(c="e"),
        lambda v: v["b"].update(e=1),
        lambda v: v.pop("format"),
        lambda v: v.pop("content_sha256"),
        lambda v: v.update(content_sha256=5),
    ],
)
def test_every_change_is_seen(change):
    values = json.loads(json.dumps(seal_values(VALUES)))
    change(values)
    with pytest.raises(ArtifactError, match=r"x\.json: damaged or changed since it was made"):
        take_seal(values, READER)
