import pytest

from lfm_deploy.errors import DeployError, first_line, nearest


def test_first_line_of_what_an_error_says():
    assert first_line(ValueError("  no such operator\nat node 3\n")) == "no such operator"


def test_an_error_that_says_nothing_is_called_by_its_class():
    assert first_line(MemoryError()) == "MemoryError"


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("exprot", ["export", "explore"], "'export'"),
        ("DIFUSION", ["gan", "diffusion"], "'diffusion'"),
        ("forensynths", ["ForenSynths"], "'ForenSynths'"),
        ("sm8", ["sm80", "sm86", "sm89", "sm120"], "'sm80', 'sm86' or 'sm89'"),
        ("toaster", ["gan", "diffusion"], ""),
        ("x", [], ""),
    ],
)
def test_nearest_names_what_was_probably_meant(name, known, expected):
    assert nearest(name, known) == expected


def test_a_message_is_one_line_that_fits_on_a_screen_and_keeps_what_to_do_next():
    """Damaged files put values of 100,000 letters into messages that quote them."""
    shown = str(DeployError(f"a.json: k is {'x' * 100_000}\nsecond; run 'lfm-deploy build' again"))
    assert len(shown) < 5100
    assert "\n" not in shown
    assert shown.startswith("a.json: k is xxx")
    assert shown.endswith("x second; run 'lfm-deploy build' again")
