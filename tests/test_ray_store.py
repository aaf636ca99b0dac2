"""Shards of a store, judged under Ray into the same store: objects as one process without Ray puts them."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from shard_list import make_list

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra 'ray'")


def predict(*arguments):
    command = [sys.executable, "-m", "lfm_deploy", "predict", "--format", "csv", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_objects_are_those_of_one_process(bucket, pictures, small_workdir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_list(pictures, tmp_path)
    names = ("one.tar", "two.zip", "three.tar.gz")
    (tmp_path / "stored.txt").write_text("\n".join(bucket.put(name, (tmp_path / name).read_bytes()) for name in names))
    said = {}
    for folder, options in (("ray", ["--ray", "local", "--actors", "2"]), ("alone", [])):
        out = ["--output-dir", bucket.url(folder), "--workdir", small_workdir.path]
        done = predict("--from-list", "stored.txt", *out, *options)
        assert done.returncode == 0, done.stderr
        assert "3 parts judged; 9 pictures: " in done.stderr
        said[folder] = done.stderr
    # A log grows line by line, which no object does.
    assert "Ray's messages go to ray.log\n" in said["ray"]
    ours, theirs = (
        {key.rpartition("/")[2]: content for key, content in bucket.contents(f"{folder}/").items()} for folder in said
    )
    assert ours == theirs
    assert len(ours) == 3
