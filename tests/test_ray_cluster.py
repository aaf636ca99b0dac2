"""Joining a cluster: what is no address, what does not answer, and what does not fit, each in one line and in time."""

import logging
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lfm_deploy.errors import ConfigError, UnavailableError
from lfm_deploy.prediction.ray_cluster import _logging_into, _own_token, connect, count_actors, share_cores

ROOT = Path(__file__).resolve().parents[1]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra 'ray'")


def node(cores, cards=0):
    return {"Resources": {"CPU": float(cores), **({"GPU": float(cards)} if cards else {})}}


@pytest.mark.parametrize(
    ("nodes", "cores", "cards", "count"),
    [
        ([node(8), node(7)], 2, 0, 7),
        ([node(8), {"Resources": {}}], 16, 0, 0),
        ([node(64, 8), node(16, 1), node(64)], 8, 1, 9),
        ([node(8, 8)], 4, 1, 2),
    ],
)
def test_actors_are_counted_machine_by_machine(nodes, cores, cards, count):
    assert count_actors(nodes, cores, cards) == count


@pytest.mark.parametrize(
    ("nodes", "cards", "cores"),
    [([node(64), node(2)], 0, 1), ([node(64, 8), node(6, 1), node(4)], 1, 6), ([node(2, 4)], 1, 1), ([], 1, 1)],
)
def test_cores_are_shared_among_the_cards_of_a_machine(nodes, cards, cores):
    assert share_cores(nodes, cards) == cores


@needs_ray
@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("here", ConfigError, "'here' is no address; expected local, auto, or HOST:PORT"),
        ("ray://head:10001", ConfigError, "Ray Data does not run through Ray Client"),
        ("127.0.0.1:{free}", UnavailableError, "nothing answers at 127.0.0.1:"),
        ("127.0.0.1:99999", UnavailableError, "nothing answers at 127.0.0.1:99999"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(address, error, said, tmp_path):
    with socket.socket() as held:  # bound, and nobody listens
        held.bind(("127.0.0.1", 0))
        address = address.format(free=held.getsockname()[1])
        with pytest.raises(error, match=said), connect(address, 1, tmp_path / "ray.log"):
            pass


def test_messages_of_ray_go_into_the_file_and_nowhere_else(tmp_path, capsys):
    logger = logging.getLogger("ray.data.somewhere")
    logger.setLevel(logging.INFO)
    before = {name: list(logging.getLogger(name).handlers) for name in ("ray", "ray.data")}
    with _logging_into(tmp_path / "ray.log"):
        logger.warning("a worker died")
    assert "WARNING ray.data.somewhere: a worker died\n" in (tmp_path / "ray.log").read_text()
    assert capsys.readouterr() == ("", "")
    assert {name: list(logging.getLogger(name).handlers) for name in ("ray", "ray.data")} == before


def test_a_job_has_a_token_of_its_own_unless_the_user_has_one(monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    tokens = []
    for _ in range(2):
        with _own_token():
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert len({*tokens}) == 2
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with _own_token():
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def predict(tmp_path, *options):
    (tmp_path / "list.txt").write_text("a.tar\n")
    blocked = "import sys; sys.modules['ray'] = None; from lfm_deploy.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", blocked, "predict", "--from-list", "list.txt", *options],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


def test_without_ray_the_extra_is_named(tmp_path):
    done = predict(tmp_path, "--output-dir", "out", "--ray", "local")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Error: Ray: not run: it is not installed; run 'pip install 'lfm-deploy[ray]''\n"
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ray", "local"], "--ray is for --output-dir"),
        (["--output-dir", "out", "--actors", "2"], "--actors, --actor-cores and --patience are for --ray"),
        (["--output-dir", "out", "--patience", "9"], "--actors, --actor-cores and --patience are for --ray"),
        (["--output-dir", "out", "--ray", "local", "--part", "1/2"], "leave --part and --gpus out"),
        (["--output-dir", "out", "--ray", "local", "--device", "cuda:1"], "use --device cuda, not cuda:1"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(tmp_path, options, said):
    done = predict(tmp_path, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


@needs_ray
def test_a_refusal_leaves_no_folder_and_no_log(tmp_path):
    (tmp_path / "a.tar").touch()
    arguments = ["predict", "a.tar", "--output-dir", "new/out", "--ray", "local", "--device", "cuda"]
    done = subprocess.run(
        [sys.executable, "-m", "lfm_deploy", *arguments],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 3, done.stderr
    assert "--ray local: no machine has 1 core and a GPU for an actor" in done.stderr
    assert not (tmp_path / "new").exists()
