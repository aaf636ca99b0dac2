"""The envelope as a table and as a picture, from values that were made up here."""

import io
import xml.etree.ElementTree as ET  # the name that everyone uses

import pytest
from rich.console import Console

from lfm_deploy.report.envelope_table import print_envelope
from lfm_deploy.report.plots.envelope import plot_envelope
from lfm_deploy.verification.conditions import standard_conditions

SVG = "{http://www.w3.org/2000/svg}"


def estimate(value, width=None):
    if value is None:
        return None
    low, high = (None, None) if width is None else (max(value - width, 0), min(value + width, 100))
    return {"value": value, "low": low, "high": high}


def envelope(width=None, skipped=0, sets=("faces", "<b>maps", "tiles")):
    """Every further condition is worse."""
    conditions = []
    for step, condition in enumerate(standard_conditions()):
        fake, false = 98.0 - 8 * step, 3.0 + 5 * step
        parts = [
            {
                "set": name,
                "real": 50,
                "fake": 0 if name == "tiles" else 50,
                "acc": estimate((fake + 100 - false) / 2, width),
                "ap": None if name == "tiles" else estimate(99.0 - step, width),
                "acc_fake": None if name == "tiles" else estimate(fake, width),
                "fpr": estimate(false, width),
            }
            for name in sets
        ]
        missing = skipped if condition.name == "crop 256" else 0
        conditions.append(
            {
                "name": condition.name,
                "what": condition.what,
                "acc": estimate((fake + 100 - false) / 2, width),
                "acc_real": estimate(100 - false, width),
                "acc_fake": estimate(fake, width),
                "ap": estimate(99.0 - step, width),
                "fpr": estimate(false, width),
                "pictures": 250 - missing,
                "skipped": missing,
                "reasons": [{"reason": "smaller than 256x256 pixels", "pictures": missing}] if missing else [],
                "sets": parts,
            }
        )
    return {"engine": "onnxruntime fp32", "suite": "mine [red]", "encoders": {}, "conditions": conditions}


def printed(values, width=160):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, color_system="standard",
                      force_terminal=True)  # fmt: skip
    print_envelope(values, console)
    return console.file.getvalue()


def plain(values, width=160):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    print_envelope(values, console)
    return console.file.getvalue()


def row_of(text, name):
    (line,) = (line for line in text.splitlines() if line.startswith(f"  {name} "))
    return line.split()


def test_every_condition_has_its_row_and_its_figures():
    text = plain(envelope(), 110)
    assert row_of(text, "as is") == ["as", "is", "97.5", "99.0", "98.0", "3.0", "250"]
    assert row_of(text, "screenshot") == ["screenshot", "19.5", "87.0", "2.0", "63.0", "250"]
    assert "mine [red]: operating envelope of onnxruntime fp32" in text


def test_intervals_stand_beside_the_figures():
    assert row_of(plain(envelope(width=2.0)), "jpeg 98")[2:8] == ["91.0", "89-93", "98.0", "96-100", "90.0", "88-92"]


def test_wide_terminals_say_what_happened():
    for condition in standard_conditions():
        assert condition.what in plain(envelope())
        assert condition.what not in plain(envelope(), 100)


def test_what_most_often_goes_wrong_is_red():
    lines = printed(envelope()).splitlines()
    (bad,) = (line for line in lines if "screenshot " in line)
    (good,) = (line for line in lines if "as is " in line)
    assert bad.count("\x1b[1;31m") == 2
    assert "\x1b[1;31m" not in good


def test_test_sets_have_tables_where_there_is_room():
    text = plain(envelope())
    found, false = text.split("real pictures called fake, %, by test set")
    assert row_of(found.split("fakes found, %, by test set")[1], "faces")[1:4] == ["98", "90", "82"]
    assert row_of(false, "tiles")[1:4] == ["3", "8", "13"]
    assert "tiles" not in found.split("by test set")[1]  # it has no fakes
    assert "by test set: in the JSON" in plain(envelope(), 80)
    assert "by test set" not in plain(envelope(sets=("one",)))


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(len(line) for line in plain(envelope(width=2.0), width).splitlines()) <= width


def test_skipped_pictures_are_said_with_the_reason():
    assert "crop 256: 14 pictures skipped, so its figures are of fewer: 14 smaller than 256x256 pixels" in plain(
        envelope(skipped=14)
    )


def test_undefined_figures_are_a_dash():
    values = envelope()
    values["conditions"][0] |= {"ap": None, "acc": None}
    assert row_of(plain(values, 110), "as is")[2:4] == ["-", "-"]
    plot_envelope(values["conditions"], title="t")


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  # our own


def test_the_picture_names_every_condition_and_takes_the_ink_of_the_page():
    svg = plot_envelope(envelope(width=2.0)["conditions"], title="t")
    assert {condition.name for condition in standard_conditions()} <= set(texts(svg))
    assert {"ACC", "AP", "fakes found", "real called fake"} <= set(texts(svg))
    assert "currentColor" in svg
    assert "#123454" not in svg
    assert svg == plot_envelope(envelope(width=2.0)["conditions"], title="t")


def test_a_name_in_the_picture_stays_text():
    values = envelope()
    values["engine"] = values["conditions"][0]["name"] = "<script>alert(1)</script>"
    svg = plot_envelope(values["conditions"], title="t")
    assert "<script" not in svg
    assert "<script>alert(1)</script>" in texts(svg)
