"""Rows as Parquet: the same values as predict's, to the last bit, from either format."""

import json
import sys

import numpy as np
import pytest

from lfm_deploy.errors import InputError, UnavailableError
from lfm_deploy.pictures.provenance import Provenance
from lfm_deploy.prediction.parquet import check_parquet, require_pyarrow, write_parquet
from lfm_deploy.prediction.rows import Prediction, RowFormat, judge_logit, write_rows

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

LOGITS = np.array([0.1, -3.4028235e38, 1e-45, 16777217.0, 2.5], np.float32)


@pytest.fixture
def rows():
    rows = [judge_logit(index, f'ü/{index}, "x"\n.png', logit, 2.0) for index, logit in enumerate(LOGITS)]
    return [*rows, Prediction(index=5, path="bad \udcff.png", error="no picture", notes=("jpeg-q88", "palette"))]


@pytest.mark.parametrize("form", [RowFormat.CSV, RowFormat.JSONL])
def test_values_are_those_of_the_rows(rows, form, tmp_path):
    blocks = [write_rows(rows[:2], form), b"", write_rows(rows[2:], form)]
    write_parquet(tmp_path / "x.parquet", blocks, form, {"engine": "one"}, provenance=False)
    file = pq.ParquetFile(tmp_path / "x.parquet")
    table = file.read()
    assert file.num_row_groups == 2
    found = table.to_pydict()
    logits = table["logit"].to_numpy()[:5].astype(np.float32)
    assert logits.tobytes() == LOGITS.tobytes()
    assert found["logit"][5] is None
    # Six digits are what predict prints.
    assert found["probability"][:5] == [float(f"{row.probability:.6g}") for row in rows[:5]]
    assert found["verdict"] == [row.verdict for row in rows]
    assert found["path"] == [*(row.path for row in rows[:5]), "bad \\xff.png"]
    assert found["error"] == [row.error for row in rows]
    assert found["notes"] == [*[""] * 5, "jpeg-q88; palette"]
    assert json.loads(table.schema.metadata[b"lfm_deploy"]) == {"engine": "one"}
    check_parquet(tmp_path / "x.parquet")


@pytest.mark.parametrize("form", [RowFormat.CSV, RowFormat.JSONL])
def test_provenance_has_its_columns(form, tmp_path):
    row = Prediction(index=0, path="a.png", error="no", provenance=Provenance(c2pa="a maker", generator=None))
    write_parquet(tmp_path / "x.parquet", [write_rows([row], form)], form, {}, provenance=True)
    (found,) = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert (found["c2pa"], found["generator"]) == ("a maker", None)


def test_no_rows_are_a_table_all_the_same(tmp_path):
    write_parquet(tmp_path / "x.parquet", [b""], RowFormat.CSV, {}, provenance=False)
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 0


def test_files_of_others_are_not_ours(tmp_path):
    import pyarrow as pa

    (tmp_path / "x.parquet").write_bytes(b"PAR1 something else")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "theirs.parquet")
    for name in ("x.parquet", "theirs.parquet"):
        with pytest.raises(InputError, match="not written by lfm-deploy"):
            check_parquet(tmp_path / name)
    check_parquet(tmp_path / "none.parquet")


def test_without_pyarrow_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(UnavailableError, match="parquet"):
        require_pyarrow()
