"""Lists, shards and results in a store, by the command line: what a disk gives, or one line on why it refuses."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from s3_server import Bucket, Proxy, command_environment, free_port
from shard_list import make_list
from waiting import wait_for

from lfm_deploy.cli import run
from lfm_deploy.errors import ArtifactError
from lfm_deploy.prediction.part_files import read_part
from lfm_deploy.storage.places import RemotePath

ENDINGS = {"csv": ".part", "jsonl": ".part", "parquet": ".part.parquet"}


@pytest.fixture(autouse=True)
def listed(pictures, tmp_path, monkeypatch, bucket):
    """A list on this machine, and the same in a bucket below ``in/``."""
    monkeypatch.chdir(tmp_path)
    lines = make_list(pictures, tmp_path)
    (tmp_path / "empty.tar").touch()
    names = [*lines.read_text().split(), "empty.tar"]
    names[names.index("no") : names.index("no") + 2] = ["no such.zip"]
    lines.write_text("\n".join(names) + "\n")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            bucket.put(f"in/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
    bucket.put("in/list.txt", "".join(f"{bucket.url('in/')}{name}\n" for name in names).encode())
    return bucket.url("in/list.txt")


@pytest.fixture
def call(capfdbinary):
    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return code, out, err.decode()

    return call


@pytest.fixture
def workdir(small_workdir):
    return ("--workdir", str(small_workdir.path))


def start(environment, *arguments):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "lfm_deploy", *map(str, arguments)]
    return subprocess.Popen(command, env=command_environment(environment), stderr=subprocess.PIPE, text=True)


def without_prefix(content, bucket):
    return content.replace(bucket.url("in/").encode(), b"")


@pytest.mark.parametrize("form", ENDINGS)
def test_results_are_those_of_the_disk_byte_for_byte(call, bucket, listed, workdir, form, tmp_path):
    code, _, _ = call("predict", "@list.txt", "--output-dir", "out", "--format", form, *workdir)
    assert code == 0
    code, wanted, _ = call("collect", "out", "--list", "list.txt")
    assert code == 0
    out = bucket.url("out")
    for part in ("2/2", "1/2"):
        code, _, err = call("predict", f"@{listed}", "--output-dir", out, "--part", part, "--format", form, *workdir)
        assert code == 0, err
    assert sorted(key.partition("-")[0] for key in bucket.keys("out/")) == sorted(
        f"out/{name}" for name in ("0.png", "bad.tar", "empty.tar", "no_such.zip", "one.tar", "three.tar.gz", "two.zip")
    )
    assert all(key.endswith(ENDINGS[form]) for key in bucket.keys("out/"))
    code, found, err = call("collect", out, "--list", listed)
    assert code == 0, err
    assert without_prefix(found, bucket) == wanted
    assert "7 parts; 19 pictures" in err
    code, printed, _ = call("collect", out, "--list", listed, "--output", bucket.url("all.csv"), "--json")
    if form == "jsonl":
        assert code == 2  # which promises other rows
    else:
        assert code == 0
        assert without_prefix(bucket.get("all.csv"), bucket) == wanted
        summary = json.loads(printed)
        reasons = {name.removeprefix(bucket.url("in/")): reason for name, reason in summary["unreadable"].items()}
        assert reasons["empty.tar"] == "damaged or cut short: the file is empty"
        assert reasons["bad.tar"].startswith("damaged or cut short")
        assert reasons["no such.zip"] == "no such file"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("s3:")]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_is_there_and_valid_is_skipped(call, bucket, listed, workdir, form):
    arguments = ("predict", f"@{listed}", "--output-dir", bucket.url("out"), "--format", form, *workdir)
    assert call(*arguments)[0] == 0
    before = bucket.contents("out/")
    names = {key.partition("-")[0].removeprefix("out/"): key for key in before}
    bucket.delete(names["two.zip"])
    damaged = bytearray(before[names["one.tar"]])
    damaged[len(damaged) // 3] ^= 4
    bucket.put(names["one.tar"], bytes(damaged))
    code, _, err = call(*arguments)
    assert code == 0
    # Those two, and the three shards that could not be read, which may be there by now.
    assert "5 parts judged, 3 with shards that could not be read whole, 2 were there" in err
    assert bucket.contents("out/") == before
    bucket.put("in/one.tar", bucket.get("in/bad.tar") + bytes(10240))
    assert "in/one.tar again: the shard has another size now" in call(*arguments)[2]


def test_results_of_other_settings_or_another_format_are_refused(call, bucket, listed, workdir):
    arguments = ("predict", f"@{listed}", "--output-dir", bucket.url("out"), *workdir)
    assert call(*arguments)[0] == 0
    before = bucket.contents("out/")
    code, _, err = call(*arguments, "--threshold", "1.5")
    assert code == 2
    assert "was judged otherwise: threshold 0.0 and 1.5" in err
    code, _, err = call(*arguments, "--format", "parquet")
    assert code == 2
    assert "is of another format than parquet" in err
    assert bucket.contents("out/") == before


def test_a_run_that_is_killed_leaves_whole_objects_and_goes_on(call, s3_server, bucket, listed, workdir):
    _, wanted, _ = call("predict", f"@{listed}", "--format", "csv", *workdir)
    arguments = ("predict", f"@{listed}", "--output-dir", bucket.url("out"), *workdir)
    process = start(s3_server.environment(), *arguments)
    wait_for(lambda: bucket.keys("out/") or process.poll() is not None)
    process.kill()
    process.communicate()
    for key in bucket.keys("out/"):
        read_part(RemotePath(bucket.url(key)))
    assert call(*arguments)[0] == 0
    assert call("collect", bucket.url("out"), f"@{listed}")[:2] == (0, wanted)


def test_a_run_that_is_interrupted_leaves_no_copy_behind(s3_server, bucket, listed, workdir, tmp_path):
    (tmp_path / "scratch").mkdir()
    bucket.put("in/large.tar", large_shard())
    with Proxy(s3_server.port, most_down=1 << 20, stall=True) as proxy:
        variables = s3_server.environment(proxy.url) | {"TMPDIR": str(tmp_path / "scratch")}
        process = start(variables, "predict", bucket.url("in/large.tar"), "--output-dir", bucket.url("out"), *workdir)
        wait_for(proxy.is_full.is_set)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Interrupted after 0 parts; the same command again continues."
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) < 1 << 10  # ONNX Runtime leaves a mark
    assert not bucket.keys("out/")


def large_shard():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("large.png")
        member.size = 8 << 20
        archive.addfile(member, io.BytesIO(os.urandom(8 << 20)))
    return content.getvalue()


@pytest.fixture(scope="module", autouse=True)
def broken(s3_server, pictures, small_workdir, tmp_path_factory):
    """A run over a network that breaks, begun before all other tests: most of its time it waits to try again."""
    folder, bucket = tmp_path_factory.mktemp("broken"), Bucket(s3_server.url)
    make_list(pictures, folder)
    for name in ("two.zip", "one.tar"):
        bucket.put(name, (folder / name).read_bytes())
    bucket.put("large.tar", large_shard())
    bucket.put("broken.txt", "\n".join(map(bucket.url, ("two.zip", "large.tar", "one.tar"))).encode())
    arguments = ("predict", f"@{bucket.url('broken.txt')}", "--output-dir", bucket.url("out"))
    # s3fs goes on behind what it has, five times.
    with Proxy(s3_server.port, most_down=1 << 20) as proxy:
        process = start(s3_server.environment(proxy.url), *arguments, "--workdir", str(small_workdir.path))
        yield bucket, process
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_network_that_breaks_is_not_a_bad_shard(broken):
    bucket, process = broken
    _, err = process.communicate()
    assert process.returncode == 1
    last = err.splitlines()[-1]
    assert last.startswith(f"Error: {bucket.url('large.tar')}: the store is out of reach, or fails: ")
    assert [key.partition("-")[0] for key in bucket.keys("out/")] == ["out/two.zip"]


def test_a_store_that_refuses_is_one_line_and_no_part(call, s3_server, bucket, workdir, tmp_path):
    (tmp_path / "mixed.txt").write_text(f"{bucket.url('in/two.zip')}\ns3://no-such-bucket/x.tar\none.tar\n")
    code, _, err = call("predict", "@mixed.txt", "--output-dir", "out", *workdir)
    assert code == 2
    assert err.splitlines()[-1].startswith("Error: s3://no-such-bucket/x.tar: there is no such bucket")
    assert [path.name.partition("-")[0] for path in Path("out").iterdir()] == ["two.zip"]
    for arguments in (
        ("predict", "one.tar", "--output-dir", "s3://no-such-bucket/out", *workdir),
        ("predict", "one.tar", "--output", "s3://no-such-bucket/x.csv", *workdir),
        ("predict", "@s3://no-such-bucket/list.txt", *workdir),
        ("collect", "s3://no-such-bucket/out", "one.tar"),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, b"")
        assert err.splitlines()[-1].startswith("Error: s3://no-such-bucket")
    begun = [
        (start(s3_server.environment(url, keys=keys) | {"AWS_MAX_ATTEMPTS": "1"}, "predict", *names, *workdir), *wanted)
        for keys, url, *wanted in (
            (False, s3_server.url, 3, "no credentials on this machine"),
            (True, f"http://127.0.0.1:{free_port()}", 1, "out of reach"),
        )
        for names in (
            ("one.tar", "--output-dir", bucket.url("out")),
            (bucket.url("in/one.tar"), "--output-dir", "new"),
        )
    ]
    for process, wanted, said in begun:
        _, err = process.communicate()
        assert process.returncode == wanted
        assert len(err.splitlines()) == 1
        assert said in err
    assert not bucket.keys("out/")
    assert not list(Path("new").glob("*"))


def test_one_file_in_a_store_is_there_when_all_rows_are(call, bucket, workdir):
    _, wanted, _ = call("predict", bucket.url("in/photos"), "--format", "jsonl", *workdir)
    arguments = ("predict", bucket.url("in/photos"), "--output", bucket.url("x.jsonl"), *workdir)
    assert call(*arguments)[0] == 0
    assert bucket.get("x.jsonl") == wanted
    code, _, err = call(*arguments)
    assert code == 2
    assert "is there already, and complete" in err
    assert call(*arguments, "--overwrite")[0] == 0
    mine = bucket.put("mine.csv", b"mine")
    code, _, err = call("predict", bucket.url("in/photos"), "--output", mine, "--overwrite", *workdir)
    assert code == 2
    assert "not written by predict" in err
    code, _, err = call("predict", f"@{bucket.url('in/list.txt')}", "--output", bucket.url("in/list.txt"), *workdir)
    assert code == 2
    assert "one of the inputs" in err
    assert bucket.get("mine.csv") == b"mine"


def test_collect_writes_over_nothing_but_its_own_kind(call, bucket, listed, workdir):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    assert call("predict", f"@{listed}", "--output-dir", bucket.url("out"), *workdir)[0] == 0
    arguments = ("collect", bucket.url("out"), "--list", listed, "--output")
    assert call(*arguments, bucket.url("all.parquet"))[0] == 0
    assert pq.read_table(io.BytesIO(bucket.get("all.parquet"))).num_rows == 19
    assert call(*arguments, bucket.url("all.parquet"))[0] == 2
    assert call(*arguments, bucket.url("all.parquet"), "--overwrite")[0] == 0
    mine = bucket.put("mine.parquet", b"mine")
    for output in (mine, listed, bucket.url("out/new.part.parquet"), bucket.url("x.jsonl"), bucket.url("x.png")):
        code, _, err = call(*arguments, output, "--overwrite")
        assert (code, err.startswith("Error: --o")) == (2, True)
    assert bucket.get("mine.parquet") == b"mine"


def test_parts_that_are_damaged_in_the_store_are_named(call, bucket, listed, workdir):
    assert call("predict", f"@{listed}", "--output-dir", bucket.url("out"), *workdir)[0] == 0
    key = next(key for key in bucket.keys("out/") if "one.tar" in key)
    bucket.put(key, bucket.get(key)[:200])
    bucket.put("out/other.part", b"")
    with pytest.raises(ArtifactError, match="cut short"):
        read_part(RemotePath(bucket.url(key)))
    code, _, err = call("collect", bucket.url("out"), "--list", listed)
    assert code == 2
    assert f"1 missing ({bucket.url('in/one.tar')})" in err
    assert "2 damaged (one.tar-" in err
    code, _, err = call("collect", bucket.url("nowhere"), "--list", listed)
    assert code == 2
    assert "no such folder" in err


@pytest.mark.parametrize("option", ["--evidence", "--engine", "--workdir"])
def test_what_must_lie_on_this_machine_says_so(call, option):
    code, _, err = call("predict", "one.tar", option, "s3://some/place")
    assert code == 2
    assert "is in a store" in err
