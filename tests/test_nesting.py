import pytest

from lfm_deploy.storage.nesting import MOST_LEVELS, find_json_fault, find_toml_fault


@pytest.mark.parametrize("level", [1, MOST_LEVELS, MOST_LEVELS + 1])
@pytest.mark.parametrize(("find", "start"), [(find_json_fault, ""), (find_toml_fault, "a = ")])
def test_the_limit_is_where_it_says(find, start, level):
    assert bool(find(start + "[" * level + "]" * level)) is (level > MOST_LEVELS)
    assert bool(find(start + "[{}]," * level)) is False


@pytest.mark.parametrize("quoted", ['"[[[["', r'"\"[[[["', '"{{{{"'])
def test_brackets_in_strings_do_not_count(quoted):
    assert find_json_fault(f"[{f'{quoted},' * 20}0]") == ""
    assert find_toml_fault(f"a = [{f'{quoted},' * 20}]") == ""


@pytest.mark.parametrize(
    "text",
    [
        "# [[[[ . . . . . . . . . . . . . . . . . . . .\n" * 20,
        'a = """\n[[[[ " [[ "" [[ \\""" [[\n"""\n' * 20,
        "a = '''[[[[ ' [[ '' [[ '''\n" * 20,
        "a = '[[[['\n" * 20,
        f'a = "{"." * 100}"',
        f"a = [{'1.5, ' * 100}]",
        "[a.b.c]\nd.e = 1.5\n" * 20,
    ],
)
def test_toml_that_is_flat(text):
    assert find_toml_fault(text) == ""


@pytest.mark.parametrize(
    "before",
    ['""', "''", '"a"', '""""""', '"""a""""', '"""a"""""', "'''a''''", "'''a'''''", r'"\""', r'"""\""""', "'\\'"],
)
def test_what_stands_behind_a_string_counts(before):
    text = f"a = [ {before}, {'[' * 50}"
    assert find_toml_fault(text) == f"line 1 nests deeper than {MOST_LEVELS} levels"


# A scan that went back for each of these would take minutes.
UNENDING = {
    "blocks": '"""\\' * 16_000,
    "escapes": "a=[" + '"""\\"' * 12_000,
    "three": "'''" * 20_001,
    "two": "''" * 30_000,
    "one": '"' * 60_001,
}


@pytest.mark.parametrize("name", UNENDING)
def test_strings_that_do_not_end_are_passed_over_once(name):
    assert find_toml_fault(UNENDING[name]) == ""
    assert find_json_fault("[" * 33 + UNENDING[name]) == f"line 1 nests deeper than {MOST_LEVELS} levels"
