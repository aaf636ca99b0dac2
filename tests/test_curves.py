import resource
import struct

import pytest

from training.curves import EventWriter, draw_curves

HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "training_acc": 0.7, "acc": 0.8, "ap": 0.9, "learning_rate": 1e-4,
     "images_per_second": 10.0}
    for epoch in range(1, 4)
]  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 3])
def test_curves_are_a_png(tmp_path, epochs):
    path = tmp_path / "without suffix"
    draw_curves(HISTORY[:epochs], path, "tiny")
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1170, 442)


def test_event_files_hold_the_epochs(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (1, 3):  # a run that was killed in its third epoch, and gone on with
        with EventWriter(tmp_path, first, pytest.fail) as events:
            assert events.is_open
            for entry in HISTORY[first - 1 :]:
                events.write(entry)
    found = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("training/loss")] == [
        (entry["epoch"], pytest.approx(entry["loss"])) for entry in HISTORY
    ]
    assert set(found.Tags()["scalars"]) >= {"validation/AP", "validation/ACC", "training/learning rate"}


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    import sys

    messages = []
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with EventWriter(tmp_path / "events", 1, messages.append) as events:
        assert not events.is_open
        events.write(HISTORY[0])
    assert not (tmp_path / "events").exists()
    assert messages == ["no event files: TensorBoard is missing; pip install 'lfm-deploy[train]'"]


def test_a_full_disk_is_one_line_and_no_end_of_training(tmp_path):
    messages = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventWriter(tmp_path, 1, messages.append) as events:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            for entry in HISTORY:
                events.write(entry)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not events.is_open
    assert messages == [f"no more event files: {tmp_path}: File too large"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    messages = []
    with EventWriter(tmp_path / "file" / "events", 1, messages.append) as events:
        assert not events.is_open
    assert messages == [f"no more event files: {tmp_path / 'file' / 'events'}: Not a directory"]
