import pytest

from lfm_deploy.storage.complaints import describe_difference, name_place, show

HUGE = [10**5000]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", r"'a\nb'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        (HUGE[0], "an integer of more than 64 bits"),
        (HUGE, "a list"),
        ("x" * 500, f"'{'x' * 76}..."),
    ],
    ids=range(5),  # pytest cannot write the integer either
)
def test_values_are_shown_short_and_on_one_line(value, text):
    assert show(value) == text


def test_places():
    assert name_place(None) == "its content"
    assert name_place((((None, "a"), 3), "b")) == "a[3].b"
    assert name_place((None, "a\nb")) == r"'a\nb'"
    assert len(name_place((None, "a" * 500))) <= 80


def test_only_what_may_differ_does():
    strict = {"defaults": False, "others": False}
    assert describe_difference({"a": [1, {"b": 1}]}, {"a": (1, {"b": 1})}, **strict) == ""
    assert describe_difference({"a": [1, {}]}, {"a": (1, {"b": 1})}, **strict) == "a[1] has no b"
    assert describe_difference({"a": [1, {}]}, {"a": (1, {"b": 1})}, defaults=True, others=False) == ""
    assert describe_difference({"a": [1, 2]}, {"a": [1]}, **strict) == "a has 2 entries, expected 1"
    assert describe_difference({"a": [1, 2], "c": 1}, {"a": [1]}, defaults=False, others=True) == ""
