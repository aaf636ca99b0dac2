import json
import socket
import threading
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse

import pytest
from mixed_files import encode, list_bad, write_mixed
from own_loop import run_apart
from PIL import Image
from service_process import PATIENCE_S, ServiceProcess, run_service
from waiting import wait_for

from lfm_deploy.cli import run
from lfm_deploy.errors import ConfigError
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.serving.service import open_socket
from lfm_deploy.serving.settings import ServiceSettings

MIB = 1 << 20


@pytest.fixture(scope="module")
def service(deployment):
    with run_service(deployment.path) as running:
        yield running


@pytest.fixture(scope="module")
def png():
    return encode(Image.fromarray(sample_tiles(256, 256, 1)[0]), "png")


@pytest.fixture(scope="module")
def judged(deployment, tmp_path_factory):
    """Paths of 200 files of all kinds, and predict's rows on them."""
    folder = tmp_path_factory.mktemp("judged")
    paths = write_mixed(folder, 200)
    listed, rows = folder / "list.txt", folder / "rows.jsonl"
    listed.write_text("".join(f"{path}\n" for path in paths))
    command = ["predict", "--from-list", str(listed), "--json", "--output", str(rows)]
    assert run([*command, "--workdir", str(deployment.path)]) == 0
    return paths, [json.loads(line) for line in rows.read_text().splitlines()]


def test_200_files_of_all_kinds_have_the_rows_of_predict(service, judged):
    paths, expected = judged
    answers = [service.post(f"/v1/verdict?name={path}", path.read_bytes()) for path in paths]
    assert [answer.json["rows"] for answer in answers] == [[row] for row in expected]
    assert {row["verdict"] for row in expected} == {"fake", "real", None}
    for answer, row in zip(answers, expected, strict=True):
        assert answer.status == 200 if row["error"] is None else answer.status in (415, 422)
        assert answer.json.get("error") == row["error"]


def test_several_clients_share_batches_and_get_the_same_rows(service, judged):
    paths, expected = (some[:60] for some in judged)
    before = service.figure("lfm_batch_pictures_count"), service.figure("lfm_batch_pictures_sum")
    found = {}

    def work(mine):
        connection = service.connect()
        for path in mine:
            connection.request("POST", f"/v1/verdict?name={path}", path.read_bytes())
            found[path] = json.loads(connection.getresponse().read())["rows"][0]
        connection.close()

    threads = [threading.Thread(target=work, args=(paths[start::12],)) for start in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[path] for path in paths] == expected
    batches, pictures = service.figure("lfm_batch_pictures_count"), service.figure("lfm_batch_pictures_sum")
    assert pictures - before[1] == sum(row["error"] is None for row in expected)
    assert batches - before[0] < pictures - before[1]


def test_a_form_has_a_row_for_each_file(service, png):
    parts = [("one.png", png), ("two.txt", b"no picture"), ("three.png", png)]
    answer = service.post("/v1/verdict", *make_form(parts))
    assert answer.status == 200
    assert [row["path"] for row in answer.json["rows"]] == ["one.png", "two.txt", "three.png"]
    assert [row["error"] for row in answer.json["rows"]] == [
        None,
        "cannot be read: not a picture of a known format",
        None,
    ]


def test_a_form_of_bad_files_has_the_status_of_the_first(service):
    answer = service.post("/v1/verdict", *make_form([("a.txt", b"no picture"), ("b.png", b"")]))
    assert (answer.status, answer.json["reason"]) == (415, "unknown-format")
    assert len(answer.json["rows"]) == 2


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"rubbish" * 100, b"--x\r\nContent-Disposition: form-data\r\n\r\n1"])
def test_a_damaged_form_is_refused(service, body):
    answer = service.post("/v1/verdict", body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status, answer.json["reason"]) == (400, "bad-request")


def test_a_form_without_a_boundary_is_refused(service):
    answer = service.post("/v1/verdict", b"rubbish", {"Content-Type": "multipart/form-data"})
    assert (answer.status, answer.json["reason"]) == (400, "bad-request")


def make_form(parts):
    lines = []
    for name, content in parts:
        lines += [b"--cut", f'Content-Disposition: form-data; name="file"; filename="{name}"'.encode(), b"", content]
    body = b"\r\n".join([*lines, b"--cut--", b""])
    return body, {"Content-Type": "multipart/form-data; boundary=cut"}


def test_engine_and_contract_stand_beside_the_row(service, deployment, png):
    from lfm_deploy.artifacts import Precision, read_graph_info
    from lfm_deploy.storage.atomic import sha256_of_file

    graph = deployment.graph(Precision.FP32)
    found = service.post("/v1/verdict", png).json
    assert found["engine"]["sha256"] == sha256_of_file(graph)
    assert found["contract"] == read_graph_info(graph).contract.as_dict()
    assert len(found["contract_sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("empty.png", 422, "cannot-be-judged"),
        ("text.jpg", 415, "unknown-format"),
        ("half.png", 422, "cannot-be-judged"),
        ("deep.png", 422, "cannot-be-judged"),
        ("postscript.png", 415, "unknown-format"),
    ],
)
def test_what_cannot_be_judged(service, name, status, reason):
    before = service.figure(f'lfm_refusals_total{{reason="{reason}"}}')
    answer = service.post("/v1/verdict", list_bad()[name])
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert service.figure(f'lfm_refusals_total{{reason="{reason}"}}') == before + 1


@pytest.mark.parametrize("side", [8000, 20_000])  # above the service's limit, and above Pillow's own
def test_too_many_pixels_are_refused_by_the_header_alone(service, side):
    """The file ends behind its header: whoever decoded it would find it broken, not too large."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    answer = service.post("/v1/verdict", head + chunk(b"IDAT", b"rubbish"))
    assert (answer.status, answer.json["reason"]) == (413, "too-many-pixels")


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        connection.sendall(f"POST /v1/verdict HTTP/1.1\r\nHost: x\r\nContent-Length: {33 * MIB}\r\n\r\n".encode())
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["reason"]) == (413, "body-too-large")


def test_a_client_that_sends_all_of_a_large_body_can_read_the_refusal(service):
    answer = service.post("/v1/verdict", bytes(33 * MIB))
    assert (answer.status, answer.json["reason"]) == (413, "body-too-large")


def test_a_body_that_grows_too_large_is_refused(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"POST /v1/verdict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(32):
            connection.sendall(b"100000\r\n" + bytes(MIB) + b"\r\n")
        connection.sendall(b"1\r\nx\r\n")
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["reason"]) == (413, "body-too-large")
        assert connection.recv(1) == b""  # an endless body is not listened to for ever


def test_unknown_paths_and_methods_are_answered_in_json(service):
    assert (service.get("/nothing").status, service.get("/nothing").json["reason"]) == (404, "not-found")
    answer = service.get("/v1/verdict")
    assert (answer.status, answer.json["reason"], answer.headers["allow"]) == (405, "method-not-allowed", "POST")


def test_health_and_metrics(service, png):
    assert service.get("/healthz").json == {"status": "alive"}
    assert service.get("/readyz").json == {"status": "ready"}
    before = service.figure('lfm_requests_total{endpoint="/v1/verdict",status="200"}')
    verdict = service.post("/v1/verdict", png).json["rows"][0]["verdict"]
    assert service.figure('lfm_requests_total{endpoint="/v1/verdict",status="200"}') == before + 1
    assert service.figure(f'lfm_pictures_total{{verdict="{verdict}"}}') >= 1
    assert service.figure("lfm_queue_pictures") == 0
    assert service.figure("lfm_held_bytes") == 0


@contextmanager
def serve_here(deployment, settings, monkeypatch):
    """The server in a thread of this process, for what is no option; gives its port, and what ends it."""
    from lfm_deploy.prediction.judges import open_judge
    from lfm_deploy.serving.service import _Server, serve_verdicts

    listening = open_socket("127.0.0.1", 0)
    messages, servers, startup = [], [], _Server.startup

    async def remember(self, sockets=None):
        servers.append(self)
        await startup(self, sockets)

    def end():
        for server in servers:
            server.should_exit = True

    monkeypatch.setattr(_Server, "startup", remember)
    thread = threading.Thread(
        target=serve_verdicts,
        args=(lambda: open_judge(deployment), settings, listening),
        kwargs={"on_message": messages.append},
    )
    thread.start()
    try:
        wait_for(lambda: not thread.is_alive() or any(message.startswith("ready") for message in messages))
        assert thread.is_alive()
        yield listening.getsockname()[1], end
    finally:
        end()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_slow_body_times_out(deployment, monkeypatch):
    with (
        serve_here(deployment, ServiceSettings(body_seconds=0.2), monkeypatch) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection,
    ):
        connection.sendall(b"POST /v1/verdict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["reason"]) == (408, "slow-body")
        assert connection.recv(1) == b""


def test_the_end_does_not_wait_for_pictures_that_cannot_come(deployment, png, monkeypatch):
    settings = ServiceSettings()
    # More than an option may say, and than a client waits here.
    object.__setattr__(settings, "max_delay_ms", 1500.0 * PATIENCE_S)
    with (
        serve_here(deployment, settings, monkeypatch) as (port, end),
        closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection,
        closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as other,
    ):
        connection.request("POST", "/v1/verdict", png)

        def waits():
            other.request("GET", "/metrics")
            return b"\nlfm_queue_pictures 1.0\n" in other.getresponse().read()

        wait_for(waits)
        end()
        answer = connection.getresponse()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert json.loads(answer.read())["rows"][0]["verdict"] in ("fake", "real")


def test_every_accepted_request_has_its_answer_after_sigterm(deployment, png):
    """Pictures wait for a batch that will not be full for ten seconds; the end makes it start."""
    with run_service(deployment.path, "--max-delay-ms", "10000", "--max-batch", "64") as service:
        connections = [service.connect() for _ in range(20)]
        for connection in connections:
            connection.request("POST", "/v1/verdict", png)
        service.wait_until("lfm_queue_pictures", 20)
        slow = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S)
        slow.sendall(f"POST /v1/verdict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(png)}\r\n\r\n".encode() + png[:100])
        service.wait_until("lfm_held_bytes", 100)
        service.ask_to_end()
        service.wait_for("ending")
        slow.sendall(png[100:])
        answers = [connection.getresponse() for connection in connections]
        assert [answer.status for answer in answers] == [200] * 20
        assert all(json.loads(answer.read())["rows"][0]["verdict"] for answer in answers)
        late = HTTPResponse(slow)
        late.begin()
        assert late.status == 200
        slow.close()
        assert service.process.wait(PATIENCE_S) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port))


def test_a_full_queue_says_when_to_come_again(deployment, png):
    with run_service(deployment.path, "--max-delay-ms", "10000", "--max-batch", "64", "--max-queue", "3") as service:
        answer = service.post("/v1/verdict", *make_form([(f"{index}.png", png) for index in range(4)]))
        assert answer.status in (400, 413)
        assert service.figure("lfm_queue_pictures") == 0
        connections = [service.connect() for _ in range(3)]
        for connection in connections:
            connection.request("POST", "/v1/verdict", png)
        service.wait_until("lfm_queue_pictures", 3)
        refused = service.post("/v1/verdict", png)
        assert (refused.status, refused.json["reason"]) == (503, "queue-full")
        assert int(refused.headers["retry-after"]) >= 1
        assert service.get("/healthz").status == 200
        service.ask_to_end()
        assert [connection.getresponse().status for connection in connections] == [200] * 3


def test_an_engine_that_is_not_the_exported_one_never_gets_ready(deployment, other_checkpoint, tmp_path):
    """The golden pictures of another export: the process ends with the reason before it takes a picture."""
    import shutil

    from lfm_deploy.artifacts import Precision
    from lfm_deploy.workdir import Workdir

    workdir = Workdir(tmp_path / "deploy")
    workdir.path.mkdir()
    shutil.copy(deployment.graph(Precision.FP32), workdir.graph(Precision.FP32))
    service = ServiceProcess(workdir.path)
    try:
        service.wait_for(r"^Error: .*golden\.zip: no such file.*lfm-deploy export")
        assert service.process.wait(PATIENCE_S) == 2
    finally:
        service.close()


def test_an_engine_that_gives_another_logit_ends_the_service(deployment, tmp_path):
    """A golden picture whose stored logit is another: as if the graph had changed after the export."""
    import shutil
    import zipfile

    from lfm_deploy.storage.sealed_values import seal_values

    shutil.copytree(deployment.path, tmp_path / "deploy")
    golden = tmp_path / "deploy" / deployment.golden.name
    with zipfile.ZipFile(golden) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    values = json.loads(files["golden.json"])
    del values["content_sha256"]
    values["pictures"][1]["logit"] += 1
    files["golden.json"] = json.dumps(seal_values(values)).encode()
    with zipfile.ZipFile(golden, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    service = ServiceProcess(tmp_path / "deploy")
    try:
        service.wait_for(rf"^Error: .*{values['pictures'][1]['file']}, expected")
        assert service.process.wait(PATIENCE_S) == 1
        assert not any(line.startswith("ready") for line in service.lines)
    finally:
        service.close()


def test_what_is_no_http_is_answered_in_json(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"rubbish\r\n\r\n")
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["reason"]) == (400, "bad-request")


def test_bodies_are_bounded_all_together():
    """Of two bodies that grow by turns, the second is asked to come again; alone it has room."""
    from starlette.requests import Request

    from lfm_deploy.serving.bodies import BodyReader
    from lfm_deploy.serving.refusals import RefusalError

    reader = BodyReader(ServiceSettings(max_held_bytes=150, max_body_bytes=1000))

    async def receive_100():
        return {"type": "http.request", "body": bytes(100), "more_body": False}

    def ask():
        return reader.read(Request({"type": "http", "method": "POST", "headers": []}, receive_100))

    async def main():
        async with ask() as first:
            assert (len(first), reader.held) == (100, 100)
            with pytest.raises(RefusalError) as refusal:
                async with ask():
                    pass
            assert (refusal.value.status, refusal.value.retry_after_s) == (503, 1)
            assert reader.held == 100
        async with ask():
            pass
        with pytest.raises(TimeoutError):  # of what is done with a body, not of the body
            async with ask():
                raise TimeoutError
        assert reader.held == 0

    run_apart(main())


def test_addresses_that_cannot_be_listened_on():
    with open_socket("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="cannot be listened on"):
        open_socket("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot be listened on"):
        open_socket("192.0.2.1", 0)  # an address for examples, of no machine


def test_settings_that_make_no_sense_are_refused():
    for values in ({"max_delay_ms": -1}, {"max_queue": 0}, {"body_seconds": 0}, {"max_pixels": -5}):
        with pytest.raises(ConfigError, match=next(iter(values))):
            ServiceSettings(**values)
