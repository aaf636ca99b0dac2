"""What the paper prints, as data: the same facts as in its tables."""

import csv
from importlib.resources import files

import numpy as np
import pytest
from documentation import read_flowing
from sklearn.metrics import average_precision_score

from lfm_deploy.suites import GROUPS, describe_suites
from lfm_deploy.suites.published import (
    PublishedRow,
    PublishedTable,
    average_precision_of_sigmoids,
    published_table,
)

SUITES = {spec.name: spec for spec in describe_suites()}
# A mean of figures that were rounded to a tenth is off by up to 0.05, and so is the printed mean; 1e-9 for float sums.
ROUNDING = 0.1 + 1e-9


def row_of(suite, method):
    (row,) = [row for row in published_table(suite).rows if row.method == method]
    return row


@pytest.fixture(scope="module")
def entries():
    text = files("lfm_deploy.suites").joinpath("published.csv").read_bytes()
    assert b"\r" not in text
    return list(csv.DictReader(text.decode().splitlines()))


def test_the_packaged_facts_are_those_of_the_source(entries, shared):
    with (shared / "published.csv").open(newline="") as file:
        assert entries == list(csv.DictReader(file))


def test_every_name_is_that_of_a_suite_and_of_a_test_set(entries):
    for entry in entries:
        assert entry["suite"] in SUITES or entry["suite"] == "all"
        if entry["test_set"] != "mean":
            assert entry["test_set"] in SUITES[entry["suite"]].sets


def test_every_figure_of_a_suites_own_table_is_in_its_place(entries):
    checked = 0
    for entry in entries:
        if entry["table"] != "3":
            row = row_of(entry["suite"], entry["method"])
            assert (row.acc[entry["test_set"]], row.ap[entry["test_set"]]) == (float(entry["acc"]), float(entry["ap"]))
            checked += 1
    assert checked == 400 - 36  # Table 3 has six methods and six columns


@pytest.mark.parametrize("name", SUITES)
def test_columns_are_the_suites_sets_in_its_order_and_the_mean(name):
    table = published_table(name)
    assert table.columns == (*SUITES[name].sets, "mean")
    assert table.rows[-1].method == "LFM"
    assert len({row.method for row in table.rows}) == len(table.rows)
    for row in table.rows:
        assert list(row.acc) == list(row.ap) == list(table.columns)
        assert len(set(row.notes)) == len(row.notes)


@pytest.mark.parametrize("name", SUITES)
def test_printed_means_are_those_of_the_printed_rows(name):
    checked = 0
    for row in published_table(name).rows:
        for figures in (row.acc, row.ap):
            parts = [figures[part] for part in SUITES[name].sets]
            if None not in (*parts, figures["mean"]):
                assert figures["mean"] == pytest.approx(np.mean(parts), abs=ROUNDING), row.method
                checked += 1
    # GANGen-Detection and Diffusion1kStep have no row in which every set is legible.
    expected = {"ForenSynths": 26, "DiffusionForensics": 22, "UniversalFakeDetect": 22}
    assert checked == expected.get(name, 0)


# Here the printed mean over all 38 sets is not that of the five printed suites, weighted by their sets: off by 1.4 and
# 0.4 points for LGrad, 0.1 and 0.3 for FatFormer. Ojha's AP is the plain mean of the five. The other rows agree.
ALL_DISAGREES = {("LGrad", "acc"), ("LGrad", "ap"), ("FatFormer", "acc"), ("FatFormer", "ap"), ("Ojha", "ap")}


def test_the_mean_over_all_sets_agrees_with_the_suites_but_for_known_rows():
    disagreeing = set()
    for row in published_table("all").rows:
        for kind, figures in (("acc", row.acc), ("ap", row.ap)):
            weighted = sum(figures[name] * len(spec.sets) for name, spec in SUITES.items()) / 38
            if abs(weighted - figures["all"]) > ROUNDING:
                disagreeing.add((row.method, kind))
    assert disagreeing == ALL_DISAGREES


def test_two_tables_that_print_different_means_are_told_of():
    said = {
        (name, row.method): note
        for name in SUITES
        for row in published_table(name).rows
        for note in row.notes
        if "another mean" in note
    }
    assert said == {
        ("DiffusionForensics", "Ojha"): "Table 3 prints another mean: ACC 74.1, AP 91.7",
        ("UniversalFakeDetect", "Ojha"): "Table 3 prints another mean: ACC 86.6, AP 94.5",
    }
    assert row_of("DiffusionForensics", "Ojha").acc["mean"] == 74.4


def test_what_is_not_legible_is_none_with_a_note():
    row = row_of("GANGen-Detection", "LFM")
    assert (row.acc["RelGAN"], row.ap["RelGAN"]) == (None, None)
    assert row.notes == ("the other four sets are not legible in this row", "the mean is that of Table 3")
    assert row_of("Diffusion1kStep", "CNNDetection").acc["mean"] is None


def test_groups_have_the_means_of_their_suites():
    for group, names in GROUPS.items():
        table = published_table(group)
        assert table.tables == ("3",)
        assert table.columns == (names if group != "all" else (*names, "all"))
        assert [row.method for row in table.rows] == ["LGrad", "Ojha", "NPR", "FatFormer", "SAFE", "LFM"]
    assert row_of("all", "LFM").acc["all"] == 95.9
    assert row_of("gan", "LFM").ap == {"ForenSynths": 98.3, "GANGen-Detection": 99.5}


def test_a_folder_of_ones_own_has_no_published_figures():
    assert published_table("wild") is None


def test_plain_values_have_the_reports_shape():
    row = PublishedRow("LFM", {"a": 90.0, "mean": 85.0}, {"a": 50.0, "mean": None}, ("a note",))
    assert PublishedTable("x", ("1",), ("a", "mean"), (row,)).as_dict() == {
        "tables": ["1"],
        "sets": ["a", "mean"],
        "rows": [{"method": "LFM", "acc": {"a": 90, "mean": 85}, "ap": {"a": 50.0, "mean": None}, "notes": ["a note"]}],
    }


def test_sigmoids_tie_where_the_papers_do():
    logits, labels = np.array([20.0, 40.0, 1.0, -3.0]), np.array([0, 1, 1, 0])
    with np.errstate(over="ignore"):
        expected = average_precision_score(labels, 1 / (1 + np.exp(-logits.astype(np.float32))))
    assert average_precision_of_sigmoids(logits, labels) == pytest.approx(expected, abs=1e-12)  # float64 sums
    assert average_precision_of_sigmoids(logits, labels) < average_precision_score(labels, logits)


def test_the_papers_average_precision_is_that_of_the_page(shared):
    """docs/verification.md says what AP over float32 sigmoids is on these pictures, from the authors' own logits."""
    by_set = {}
    with (shared / "wild" / "authors_logits.csv").open() as file:
        for entry in csv.DictReader(file):
            name, folder, _ = entry["path"].split("/", 2)
            by_set.setdefault(name, []).append((float(entry["logit"]), int(folder == "1_fake")))
    found = [
        average_precision_of_sigmoids(np.array([logit for logit, _ in rows]), np.array([label for _, label in rows]))
        for rows in by_set.values()
        if len({label for _, label in rows}) == 2
    ]
    assert len(found) == 7
    assert f"that gives {100 * np.mean(found):.2f}." in read_flowing("docs/verification.md")
