"""Streams of the command line that are closed, full or no longer read, and errors of the system."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lfm_deploy import cli
from lfm_deploy.cli.streams import describe_system_error, say

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "lfm_deploy"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def shell(line):
    """A line of bash in which ``$L`` is the command; its exit code and what stands on stderr."""
    environment = ENVIRONMENT | {"L": " ".join(COMMAND)}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", ["suites", "suites --json", "--help"])
def test_a_full_disk_is_one_line(arguments):
    code, said = shell(f"$L {arguments} > /dev/full")
    assert code == 1
    assert said == "Error: standard output: No space left on device; nothing half-written was left\n"


@pytest.mark.parametrize("arguments", ["suites", "suites --json"])
def test_a_reader_that_has_enough_is_no_failure(arguments):
    """``head`` has gone before the first byte is written."""
    code, said = shell(f"set -o pipefail; {{ read -r < <(:); $L {arguments}; }} | true")
    assert (code, said) == (0, "")


def test_closed_output_is_wrong_usage():
    code, said = shell("$L suites >&-")
    assert code == 2
    assert said == "Error: standard output is closed, so there is nowhere to print the result; open it\n"


def test_closed_input_and_closed_messages_change_nothing():
    assert shell("$L suites <&- 2>&- > /dev/null") == (0, "")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, 2),
        (errno.ENAMETOOLONG, 2),
        (errno.EROFS, 2),
        (errno.ENOSPC, 1),
        (errno.EDQUOT, 1),
        (errno.EIO, 1),
    ],
)
def test_errors_of_the_system_name_the_file(number, code):
    error = OSError(number, os.strerror(number), "some/file")
    assert describe_system_error(error) == (
        f"some/file: {os.strerror(number)}; nothing half-written was left",
        code,
    )


def test_an_exit_that_somebody_else_asked_for_is_passed_on(monkeypatch):
    def leave(*_, **__):
        raise SystemExit(7)

    monkeypatch.setattr(cli.commands, "main", leave)
    with pytest.raises(SystemExit, match="7"):
        cli.run(["suites"])


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "deploy"), 2, "Error: deploy: Permission denied"),
        (MemoryError(), 1, "Error: not enough memory"),
    ],
)
def test_what_no_command_expected_is_one_line(monkeypatch, capfd, raised, code, said):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(cli.commands, "main", fail)
    monkeypatch.setattr("lfm_deploy.cli.discard_results", lambda: None)  # else pytest's own output would go
    assert cli.run(["suites"]) == code
    error = capfd.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1


@pytest.mark.parametrize("coding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("arguments", ["suites", "suites --json", "--help"])
def test_a_terminal_of_few_signs_gets_them_spelled(coding, arguments):
    line = f"LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING={coding} $L {arguments} > /dev/null"
    assert shell(line) == (0, "")


def test_json_stays_json_on_a_terminal_of_few_signs(tmp_path):
    folder = tmp_path / "Bärenfotos\N{BEAR FACE}" / "0_real"
    for path in (folder, folder.with_name("1_fake")):
        path.mkdir(parents=True)
        (path / "a.png").write_bytes(b"broken")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"broken")
    for coding in ("ascii", "latin-1", "utf-8"):
        environment = ENVIRONMENT | {"PYTHONIOENCODING": coding}
        done = subprocess.run(
            [*COMMAND, "suites", folder.parent, "--json"], env=environment, capture_output=True, check=False
        )
        assert b"Traceback" not in done.stderr
        assert json.loads(done.stdout)[0]["suite"] == "Bärenfotos\N{BEAR FACE}", done.stdout


@pytest.mark.parametrize("where", ["2> /dev/full", "2> >(true)", "2>&-"])
def test_messages_that_nobody_can_read_change_no_result(where, tmp_path):
    """Everything before the rows goes to stderr: a message that fails must not keep them away."""
    (tmp_path / "a.png").write_bytes(b"broken")
    code, _ = shell(f"set -o pipefail; $L suites {tmp_path}/missing {where}")
    assert code == 2
    assert shell(f"$L suites --json {where} | head -c 100 > /dev/null")[0] == 0


def test_what_a_terminal_would_obey_is_spelled(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)  # else click takes colours away by itself
    say("Error: \x1b[31m\0\r\x9b2J: no such file\n\tgr\u00fcn \u732b")
    assert capsys.readouterr().err == "Error: \\x1b[31m\\x00\\x0d\\x9b2J: no such file\n\tgr\u00fcn \u732b\n"
