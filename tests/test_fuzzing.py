"""Five hundred damaged and odd files on each run of the tests, and proof that the fuzzer sees faults that are there."""

import json
import os
import subprocess
import sys

import pytest
from documentation import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from fuzzing.damage import damage
from fuzzing.misvalues import spoil_json, spoil_values, to_json, to_toml
from fuzzing.rows import Wanted, judge_rows
from fuzzing.trial import Answer, Result, Trial, assess

FUZZ = ROOT / "benchmarks" / "fuzz.py"
# Faults to plant: what is taken out of the product, and the kind of input that it should be missed for.
PLANTED = {
    "the seal of a graph is not compared": (
        "graph",
        "import lfm_deploy.artifacts as a; a.holds_seal = lambda content: True",
        {Result.WRONG, Result.TRACEBACK},
    ),
    "check sums of a checkpoint are not compared": (
        "checkpoint",
        "import lfm_deploy.network.checkpoint_file as c; c._check_zip = lambda path: None",
        {Result.WRONG, Result.TRACEBACK},
    ),
    "rows of a part are not compared": (
        "part",
        "import lfm_deploy.prediction.part_files as p\n"
        "p._parse_rows = lambda file, reader, head: (file.readline(), file.read())[1]",
        {Result.WRONG},
    ),
    "what stands behind the end of a tar is passed over": (
        "tar",
        "import lfm_deploy.pictures.tars as t; t._look_behind = lambda path, file, offset: iter(())",
        {Result.OMITTED},
    ),
}


@pytest.fixture(scope="session")
def seeds(deployment, make_once, tmp_path_factory):
    """Whole files that bad ones are made from, around a workdir that other tests have too."""
    folder = make_once("seeds", lambda _: None) / "whole"
    found = fuzz("--inputs", "1", "--kinds", "labels", "--seeds", folder, "--workdir", deployment.path)
    assert found["inputs"] == 1
    return folder


def fuzz(*arguments, plant=""):
    """What the script prints as JSON, with something taken out of the product first."""
    script = f"{plant}\nimport runpy, sys; sys.argv[0] = {str(FUZZ)!r}; sys.path.insert(0, {str(FUZZ.parent)!r})\n"
    script += f"runpy.run_path({str(FUZZ)!r}, run_name='__main__')"
    command = [sys.executable, "-c", script, "--json", "--quick", "--jobs", "1", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode in (0, 1), finished.stderr
    return json.loads(finished.stdout)


def test_five_hundred_bad_inputs_bring_no_wrong_answer_no_traceback_and_no_silence(seeds):
    found = fuzz("--inputs", "500", "--seed", "1", "--seeds", seeds)
    assert found["inputs"] == 500
    assert not [f"{one['result']}: {one['only']}: {one['what']}: {one['why']}" for one in found["faults"]]
    # Not everything is refused at the door: each of the three ways in which things go right is met often.
    for result in ("refused", "reported", "right"):
        assert sum(counts.get(result, 0) for counts in found["counts"].values()) > 50


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(seeds, name):
    kind, plant, results = PLANTED[name]
    found = fuzz("--inputs", "60", "--kinds", kind, "--seeds", seeds, plant=plant)
    assert {one["result"] for one in found["faults"]} & set(results)


def trial(**values):
    def judge(answer):
        return Result.RIGHT, ""

    return Trial(**{"arguments": [], "what": "", "names": ("a.json",), "judge": judge} | values)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(0, "", ""), Result.RIGHT),
        (Answer(2, "", "taking x\nError: w/a.json: damaged; make it again\n"), Result.REFUSED),
        (Answer(2, "", "Error: damaged\n"), Result.MESSAGE),
        (Answer(2, "", "a.json is damaged\n"), Result.MESSAGE),
        (Answer(2, "", "Error: a.json: bad\nError: a.json: bad\n"), Result.MESSAGE),
        (Answer(2, "", f"Error: a.json: {'x' * 9999}\n"), Result.MESSAGE),
        (Answer(70, "", "Error: a.json: damaged\n"), Result.CODE),
        (Answer(None, "", ""), Result.CODE),
        (Answer(1, "", "Traceback (most recent call last):\n  File ...\nKeyError: 'a'\n"), Result.TRACEBACK),
        (Answer(1, "", "Error: not enough memory; use smaller batches\n"), Result.MEMORY),
        (Answer(0, "", "", new=("w/.lfm-tmp-x",)), Result.LEFTOVER),
        (Answer(0, "", "", changed=("p/0.png",)), Result.WRONG),
        (Answer(0, "", "", changed=("w/.lock",)), Result.RIGHT),
    ],
)
def test_what_an_answer_is(answer, expected):
    assert assess(trial(), answer)[0] is expected


def test_one_bad_entry_may_not_cost_the_whole_input():
    refusal = Answer(2, "", "Error: a.json: damaged\n")
    assert assess(trial(refusable=False), refusal)[0] is Result.OMITTED


def row(path, logit=None, verdict=None, error=None):
    return json.dumps({"path": path, "logit": logit, "verdict": verdict, "error": error}) + "\n"


GOOD = row("a.png", 1.5, "fake")


@pytest.mark.parametrize(
    ("out", "err", "code", "expected"),
    [
        (GOOD + row("b.png", error="damaged"), "", 0, Result.REPORTED),
        (GOOD + row("b.png", -2.0, "real"), "", 0, Result.RIGHT),
        (GOOD, "left out: 1 .txt\n", 0, Result.REPORTED),
        (GOOD, "", 0, Result.OMITTED),
        (row("a.png", error="damaged") + row("b.png", error="damaged"), "", 0, Result.OMITTED),
        (GOOD + row("b.png", -2.1, "real"), "", 0, Result.WRONG),
        (GOOD + row("b.png", -2.0, "fake"), "", 0, Result.WRONG),
        (GOOD + GOOD + row("b.png", -2.0, "real"), "", 0, Result.WRONG),
        (GOOD + row("c.png", 1.0, "fake") + row("b.png", error="damaged"), "", 0, Result.WRONG),
        (GOOD + row("b.png", error="damaged"), "", 1, Result.CODE),
        ("no JSON", "", 0, Result.WRONG),
    ],
)
def test_rows_are_right_where_every_picture_has_its_verdict_or_a_word(out, err, code, expected):
    wanted = [Wanted("a.png", (1.5,), whole=True), Wanted("b.png", (-2.0,))]
    assert judge_rows(wanted, 0.0)(Answer(code, out, err))[0] is expected


def test_the_same_seed_does_the_same_damage():
    from random import Random

    values = {"format": "x", "counts": [1, 2.5, True], "inner": {"a": None}}
    for seed in range(200):
        assert damage(Random(seed), b"0123456789" * 9) == damage(Random(seed), b"0123456789" * 9)
        assert spoil_json(Random(seed), values) == spoil_json(Random(seed), values)
        assert damage(Random(seed), b"0123456789" * 9)[0] != b"0123456789" * 9


def test_values_that_no_library_writes_get_into_the_text():
    assert to_json({"a": "RAWNAN", "b": ["RAWEXPONENT"]}, None) == '{"a": NaN, "b": [1e999]}'
    assert to_toml({"a": "RAWINFINITY", "t": {"b": None}}) == "a = inf\n[t]\nb = 1979-05-27\n"
    from random import Random

    assert {spoil_values(Random(seed), {"k": 16})[1] for seed in range(300)} > {"k is 1.5", "k is 'text'", "without k"}
