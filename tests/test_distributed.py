import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from training_pictures import write_noise

from lfm_deploy.errors import ConfigError, UnavailableError
from lfm_deploy.network.checkpoint import read_checkpoint
from training.distributed import Share, draw_uniforms, gather_objects, join_processes, sum_over_processes
from training.recipe import read_recipe
from training.run import start_run

RECIPE = """
resize = 40
crop = 32
epochs = 2
batch = 4
learning_rate = 1e-2
[model]
widths = [4, 8]
projection = 4
k = 4
"""


def test_rows_of_a_batch():
    assert [Share(index, 3).rows(6) for index in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    with pytest.raises(ConfigError, match="a batch of 32 cannot be shared equally by 3 processes"):
        Share(0, 3).rows(32)


def test_draws_are_cut_from_those_of_the_whole_batch():
    whole = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0))
    parts = [draw_uniforms((2, 2, 3), Share(index, 3), torch.Generator().manual_seed(0)) for index in range(3)]
    assert torch.equal(torch.cat(parts), whole)


def test_one_process_is_alone():
    with join_processes("cpu") as (share, device):
        assert (share, device.type) == (Share(0, 1), "cpu")
        assert share.leads
        assert sum_over_processes([1.5, 2], share, device) == [1.5, 2]
        assert gather_objects("mine", share) == ["mine"]


@pytest.mark.parametrize("name", ["tpu", "meta"])
def test_devices_that_nothing_trains_on(name):
    with pytest.raises(ConfigError, match="devices are cpu, cuda and cuda:N"), join_processes(name):
        pass


def test_cuda_where_there_is_none(no_gpu):
    with pytest.raises(UnavailableError, match="--device cpu"), join_processes("cuda"):
        pass


def test_two_processes_train_as_one(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    recipe = read_recipe(str(tmp_path / "tiny.toml"))
    data = write_noise(tmp_path / "data")
    alone = start_run(recipe, tmp_path / "alone", data=data)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lfm_deploy", "train", "--recipe", "tiny.toml", "--output", "two"]
    command += ["--data", "data", "--device", "cpu", "--workers", "0", "--json"]
    # What torchrun sets, without its launcher, which takes another process.
    places = [
        {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for rank in range(2)
    ]
    processes = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | place | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in places
    ]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[1] == ("", ""), "only the first process speaks"
    assert json.loads(outputs[0][0])["epochs"] == 2
    curve = json.loads((tmp_path / "two" / "history.json").read_text())
    for mine, its in zip(curve, alone.history, strict=True):
        # The same sums in float32 in another order. Biases that batch normalisation cancels are not trained, so that
        # nothing lets Adam blow up these differences; 8 steps leave them below a millionth of a loss around 1.
        assert mine["loss"] == pytest.approx(its["loss"], rel=1e-5)
        assert mine["training_acc"] == its["training_acc"]
        assert (mine["acc"], mine["ap"]) == pytest.approx((its["acc"], its["ap"]))
    weights = [read_checkpoint(tmp_path / run / "last.pth").state for run in ("two", "alone")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)
