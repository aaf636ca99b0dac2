import csv
import io
import json
import math

import numpy as np
import pytest

from lfm_deploy.prediction.rows import COLUMNS, Prediction, RowFormat, judge_logit, write_header, write_rows

ROWS = [
    judge_logit(0, "a/b.png", np.float32(0.1), 0.0),
    judge_logit(1, 'odd, "name"\nof\ttwo lines.png', np.float32(-20.1234567), 0.0),
    Prediction(index=2, path="broken.png", error="the file is empty"),
    judge_logit(3, "caf\udce9.png", np.float32(40), 0.0),
]


@pytest.mark.parametrize("logit", [-1000.0, -40.0, -1.5, 0.0, 2.25, 40.0, 1000.0])
def test_probability_is_the_sigmoid(logit):
    expected = float(1 / (1 + np.exp(-np.longdouble(logit))))
    # Two roundings of float64 at most; below 1e-304 the logit is held.
    assert judge_logit(0, "x", np.float32(logit), 0).probability == pytest.approx(expected, rel=1e-15, abs=1e-304)


def test_above_the_threshold_is_fake():
    assert [judge_logit(0, "x", np.float32(value), 1.5).verdict for value in (1.4, 1.5, 1.6)] == [
        "real",
        "real",
        "fake",
    ]


@pytest.mark.parametrize("logit", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_verdict(logit):
    row = judge_logit(0, "x", np.float32(logit), 0)
    assert (row.verdict, row.logit, row.error) == (None, None, f"the engine's logit is {logit}")


def test_csv_reads_back():
    content = write_header(RowFormat.CSV) + write_rows(ROWS, RowFormat.CSV)
    found = list(csv.DictReader(io.StringIO(content.decode(errors="surrogateescape"), newline="")))
    assert tuple(found[0]) == COLUMNS
    for row, expected in zip(found, ROWS, strict=True):
        assert (row["path"], row["verdict"] or None, row["error"] or None) == (
            expected.path,
            expected.verdict,
            expected.error,
        )
        if expected.logit is not None:
            assert np.float32(row["logit"]) == np.float32(expected.logit)  # the very same bits
            assert float(row["probability"]) == pytest.approx(expected.probability, rel=5e-6)  # six digits
    assert b"caf\xe9.png" in content


def test_json_lines_read_back():
    lines = write_rows(ROWS, RowFormat.JSONL).splitlines()
    for line, expected in zip(lines, ROWS, strict=True):
        values = json.loads(line)
        assert tuple(values) == COLUMNS
        assert (values["path"], values["verdict"], values["error"]) == (
            expected.path,
            expected.verdict,
            expected.error,
        )
        if expected.logit is None:
            assert values["logit"] is values["probability"] is None
        else:
            assert np.float32(values["logit"]) == np.float32(expected.logit)
    assert b'"logit": 0.1,' in lines[0]


def test_a_table_keeps_to_its_lines_whatever_files_are_called():
    lines = (write_header(RowFormat.TABLE) + write_rows(ROWS, RowFormat.TABLE)).splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert lines[1].split() == [b"fake", b"0.5250", b"0.100", b"a/b.png"]
    assert lines[2].endswith(b'odd, "name"?of?two lines.png')
    assert lines[3].split()[0] == b"-"
    assert lines[3].endswith(b"broken.png: the file is empty")
    coloured = write_rows(ROWS, RowFormat.TABLE, colour=True)
    assert coloured.count(b"\x1b[0m") == len(ROWS)
    assert b"\x1b" not in write_rows([judge_logit(0, "\x1b[2J.png", np.float32(0), 0)], RowFormat.TABLE)
