from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoint import refused

from lfm_deploy.network.checkpoint import read_checkpoint
from lfm_deploy.network.checkpoint_file import load_tensors

BATCHES = "num_batches_tracked"


@pytest.fixture(scope="module")
def lfm(official_checkpoint):
    return torch.load(official_checkpoint, map_location="cpu", weights_only=True)


def prefixed(state, prefix):
    return OrderedDict((prefix + name, value) for name, value in state.items())


def other(state):
    return {name: value + 1 if name == "fc1.bias" else value for name, value in state.items()}


# name of the case -> what is saved, made of the published state dict, and what is said of it
WRAPPED = {
    "module.": (lambda s: prefixed(s, "module."), "prefix 'module.'"),
    "as the authors of NPR published": (
        lambda s: {"model": prefixed(s, "module."), "optimizer": {"state": {}, "param_groups": []}, "total_steps": 9},
        "key 'model', prefix 'module.'",
    ),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "key 'state_dict'"),
    "net": (lambda s: {"net": prefixed(s, "module."), "acc": 91.0}, "key 'net', prefix 'module.'"),
    "model_state_dict": (lambda s: {"model_state_dict": s, "loss": 0.1}, "key 'model_state_dict'"),
    "Lightning": (lambda s: {"state_dict": prefixed(s, "model."), "epoch": 3}, "key 'state_dict', prefix 'model.'"),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), ""),
    "compiled, parallel": (lambda s: prefixed(s, "module._orig_mod."), "prefix 'module.'"),
    "two deep": (lambda s: {"checkpoint": {"model": s}}, "key 'checkpoint.model'"),
    "profiled": (
        lambda s: s | {"total_ops": torch.zeros(1), "cnn.layer1.0.total_params": torch.zeros(1)},
        "without cnn.layer1.0.total_params and 1 more",
    ),
    "beside a loss's weights": (
        lambda s: {"state_dict": prefixed(s, "model.") | {"loss.weight": torch.ones(2)}},
        "key 'state_dict', prefix 'model.', without loss.weight",
    ),
    "no counters": (lambda s: {name: value for name, value in s.items() if BATCHES not in name}, ""),
    "half precision": (lambda s: {n: v.half().float() if v.is_floating_point() else v for n, v in s.items()}, ""),
    "with its average": (
        lambda s: {"model": s, "model_ema": other(s)},
        "key 'model', not what stands under key 'model_ema'",
    ),
    "with its average, flat": (
        lambda s: prefixed(s, "model.") | prefixed(other(s), "ema_model.module."),
        "prefix 'model.', not what stands under prefix 'ema_model.module.'",
    ),
    "an average alone": (
        lambda s: prefixed(s, "module.") | {"n_averaged": torch.tensor(7)},
        "prefix 'module.', averaged weights, as it holds no others, without n_averaged",
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_what_training_scripts_save_is_read_and_said(lfm, official_checkpoint, tmp_path, kind):
    wrap, said = WRAPPED[kind]
    torch.save(wrap(dict(lfm)), tmp_path / "wrapped.pth")
    expected, found = read_checkpoint(official_checkpoint), read_checkpoint(tmp_path / "wrapped.pth")
    assert found.taken == said
    assert found.config == expected.config
    close = 1e-3 if kind == "half precision" else 0  # 11 bits of weights below 2
    for name, value in expected.state.items():
        if BATCHES not in name:
            torch.testing.assert_close(found.state[name], value, rtol=close, atol=close)


@pytest.mark.parametrize("kind", ["with its average", "with its average, flat"])
def test_the_average_where_it_is_asked_for(lfm, tmp_path, kind):
    torch.save(WRAPPED[kind][0](dict(lfm)), tmp_path / "wrapped.pth")
    plain, ema = read_checkpoint(tmp_path / "wrapped.pth"), read_checkpoint(tmp_path / "wrapped.pth", ema=True)
    assert torch.equal(ema.state["fc.bias"], plain.state["fc.bias"] + 1)
    assert "averages weights" in ema.taken


def test_no_average_to_take(official_checkpoint, small_checkpoint):
    for path in (official_checkpoint, small_checkpoint):
        with pytest.raises(Exception, match="holds no average of weights") as caught:
            read_checkpoint(path, ema=True)
        assert caught.value.exit_code == 2


def test_two_networks_are_not_chosen_from(lfm, tmp_path):
    torch.save({"student": lfm, "teacher": other(lfm)}, tmp_path / "two.pth")
    refused(tmp_path / "two.pth", "holds 2 networks", "key 'student'", "key 'teacher'")


def test_npr_wrapped_as_its_authors_published_it(shared, tmp_path):
    state = torch.load(shared / "official" / "npr_random.pth", weights_only=True)
    torch.save({"model": prefixed(state, "module."), "total_steps": 9}, tmp_path / "NPR.pth")
    found, expected = read_checkpoint(tmp_path / "NPR.pth"), read_checkpoint(shared / "official" / "npr_random.pth")
    assert found.config == expected.config
    assert all(torch.equal(found.state[name], value) for name, value in expected.state.items())


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_safetensors_under_any_name(lfm, official_checkpoint, tmp_path, name):
    save_file(prefixed(lfm, "module."), tmp_path / name)
    found = read_checkpoint(tmp_path / name)
    assert found.taken == "prefix 'module.'"
    assert torch.equal(found.state["fc.weight"], read_checkpoint(official_checkpoint).state["fc.weight"])
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-100])
    refused(tmp_path / name, "damaged", "copy it again")


def test_a_dict_inside_itself_ends(lfm, tmp_path):
    content = {"model": lfm}
    content["again"] = content
    torch.save(content, tmp_path / "circle.pth")
    assert read_checkpoint(tmp_path / "circle.pth").taken == "key 'model'"


@pytest.mark.parametrize(
    ("kind", "change", "complaint"),
    [
        ("sparse", lambda v: v.to_sparse() if v.ndim == 2 else v, "fc1.weight is sparse (sparse_coo)"),
        ("meta", lambda v: torch.empty(v.shape, dtype=v.dtype, device="meta"), "a meta tensor, which has no values"),
        ("complex", lambda v: torch.complex(v, v) if v.ndim == 2 else v, "fc1.weight is complex (complex64)"),
        ("int8", lambda v: (100 * v).to(torch.int8) if v.ndim == 2 else v, "fc1.weight is of whole numbers (int8)"),
        (
            "quantised",
            lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8) if v.ndim == 2 else v,
            "fc1.weight is quantised (qint8)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch, on what it still writes
def test_what_holds_no_plain_weights_is_named(lfm, tmp_path, kind, change, complaint):
    torch.save({name: change(value) for name, value in lfm.items()}, tmp_path / f"{kind}.pth")
    refused(tmp_path / f"{kind}.pth", "holds no plain weights", complaint)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, on what it still writes
def test_torchscript_is_told_what_to_save(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 1), torch.zeros(1, 3)), tmp_path / "script.pth")
    refused(tmp_path / "script.pth", "TorchScript", "state_dict()")


def test_one_flipped_bit_of_a_weight_is_damage(small_checkpoint, tmp_path):
    """torch.load takes it: the zip's check sum tells."""
    content = bytearray(small_checkpoint.read_bytes())
    raw = torch.load(small_checkpoint, weights_only=True)["state"]["fc.weight"].numpy().tobytes()
    content[content.find(raw) + 3] ^= 2
    (tmp_path / "flipped.pth").write_bytes(content)
    torch.load(tmp_path / "flipped.pth", weights_only=True)
    refused(tmp_path / "flipped.pth", "damaged (the check sum of", "copy it again")


def test_legacy_pickles_are_still_read(lfm, tmp_path):
    torch.save(dict(lfm), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert set(load_tensors(tmp_path / "old.pth")) == set(lfm)


@pytest.mark.parametrize("key", ["k", "projection", "pools"])
@pytest.mark.parametrize("value", [16.5, "16", True, None])
def test_sizes_are_whole_numbers(small_checkpoint, tmp_path, key, value):
    content = torch.load(small_checkpoint, weights_only=True)
    content["config"][key] = value
    torch.save(content, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "bad header", f"config.{key} is ", "expected a whole number")
