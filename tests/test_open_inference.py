import json
import os
import subprocess
import sys

import numpy as np
import pytest
from apart import install_apart
from service_process import PATIENCE_S, run_service

from engines.loading import load_engine
from lfm_deploy.artifacts import Precision
from lfm_deploy.pictures.photographs import sample_tiles
from lfm_deploy.serving.open_inference import HEADER_LENGTH, InferRequest, read_request, write_answer
from lfm_deploy.serving.refusals import RefusalError

INFER = "/v2/models/lfm/infer"


@pytest.fixture(scope="module")
def engine(deployment):
    return load_engine(deployment.graph(Precision.FP32))


@pytest.fixture(scope="module")
def service(deployment):
    with run_service(deployment.path) as running:
        yield running


@pytest.fixture(scope="module")
def images():
    return sample_tiles(256, 256, 2)


def ask(images, **more):
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(images.shape)} | more]}


def as_binary(images, **more):
    header = json.dumps(ask(images, parameters={"binary_data_size": images.nbytes}) | more).encode()
    return header + images.tobytes(), {HEADER_LENGTH: str(len(header))}


def test_json_and_bytes_have_the_engines_logits_to_the_last_bit(service, engine, images):
    expected = engine.logits(images)
    for data in (images.tolist(), images.ravel().tolist()):
        (output,) = service.post(INFER, json.dumps(ask(images, data=data))).json["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("logit", "FP32", [2, 1])
        np.testing.assert_array_equal(np.array(output["data"], np.float32), expected)
    answer = service.post(INFER, *as_binary(images, id="seven", parameters={"binary_data_output": True}))
    length = int(answer.headers[HEADER_LENGTH.lower()])
    values = json.loads(answer.body[:length])
    assert (values["id"], values["model_name"]) == ("seven", "lfm")
    assert values["outputs"][0]["parameters"] == {"binary_data_size": 8}
    np.testing.assert_array_equal(np.frombuffer(answer.body[length:], "<f4"), expected)


CLIENT = """
import sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

with np.load(sys.argv[2]) as arrays:
    images, expected = arrays["images"], arrays["logits"]
client = InferenceServerClient(sys.argv[1], network_timeout=60)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("lfm")
assert not client.is_model_ready("other")
assert client.get_server_metadata()["name"] == "lfm-deploy"
metadata, config = client.get_model_metadata("lfm"), client.get_model_config("lfm")
assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 256, 256, 3]}]
assert config["max_batch_size"] == 8 and config["input"][0]["dims"] == ["256", "256", "3"]
for binary in (True, False):
    for version in ("", "1"):
        given = InferInput("image", list(images.shape), "UINT8")
        given.set_data_from_numpy(images, binary_data=binary)
        wanted = [InferRequestedOutput("logit", binary_data=binary)]
        found = client.infer("lfm", [given], outputs=wanted, request_id="r1", model_version=version)
        np.testing.assert_array_equal(found.as_numpy("logit")[:, 0], expected)
        assert found.get_response()["id"] == "r1"
given = InferInput("image", [1, 2, 2, 3], "UINT8")
given.set_data_from_numpy(np.zeros((1, 2, 2, 3), np.uint8))
try:
    client.infer("lfm", [given])
except Exception as error:
    assert "256x256" in str(error), error
else:
    raise SystemExit("a picture of 2x2 was taken")
print("done")
"""


def test_tritons_own_client(service, engine, images, tmp_path, request):
    # It wants an older ml_dtypes than the one that this project is tested with.
    folder = install_apart(request.config.cache, "tritonclient[http]==2.73.0")
    np.savez(tmp_path / "given.npz", images=images, logits=engine.logits(images))
    command = [sys.executable, "-W", "ignore", "-c", CLIENT, f"127.0.0.1:{service.port}", str(tmp_path / "given.npz")]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert found.stdout == "done\n", found.stderr


def test_health_of_the_protocol(service):
    assert service.get("/v2/health/live").json == {"live": True}
    assert service.get("/v2/health/ready").json == {"ready": True}
    assert service.get("/v2/models/lfm/ready").status == 200
    assert service.get("/v2/models/other").status == 404
    assert service.get("/v2/models/lfm/versions/2/ready").status == 404


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "one input"),
        ({}, "one input"),
        ({"inputs": []}, "one input"),
        ({"inputs": [1]}, "datatype UINT8"),
        ({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 256, 256, 3]}]}, "datatype UINT8"),
        ({"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 256, 256, 3]}]}, "called 'image'"),
        (("shape", [1, 256, 256]), "expected uint8"),
        (("shape", [1, 255, 256, 3]), "expected 256x256"),
        (("shape", [0, 256, 256, 3]), "empty batch"),
        (("shape", [-1, 256, 256, 3]), "list of sizes"),
        (("shape", [1.0, 256, 256, 3]), "list of sizes"),
        (("shape", [True, 256, 256, 3]), "list of sizes"),
        (("shape", None), "list of sizes"),
        (("shape", [1 << 40, 256, 256, 3]), "list of sizes"),
        (("data", None), "neither 'data'"),
        (("data", [1, 2, 3]), "whole numbers"),
        (("data", [[1, 2], [3]]), "ragged"),
        (("data", [0.5] * 256 * 256 * 3), "whole numbers"),
        (("data", [True] * 256 * 256 * 3), "whole numbers"),
        (("data", ["a"] * 256 * 256 * 3), "whole numbers"),
        (("data", [256] * 256 * 256 * 3), "outside of 0 to 255"),
        (("data", [-1] * 256 * 256 * 3), "outside of 0 to 255"),
        (("data", [1 << 70] * 256 * 256 * 3), "whole numbers"),
        (("parameters", {"binary_data_size": 7}), "bytes"),
        (("parameters", {"binary_data_size": "x"}), "bytes"),
        (("outputs", [{"name": "other"}]), "one output"),
        (("outputs", 5), "no list"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_damaged_request_is_refused_by_name(engine, values, words):
    if isinstance(values, tuple):
        key, value = values
        good = ask(np.zeros((1, 256, 256, 3), np.uint8), data=[0] * 256 * 256 * 3)
        (good if key == "outputs" else good["inputs"][0])[key] = value
        values = good
    with pytest.raises(RefusalError, match=words) as refusal:
        read_request(json.dumps(values).encode(), None, engine)
    assert refusal.value.status == 400


@pytest.mark.parametrize("length", ["", "x", "-1", "99999999", "1" * 40])
def test_a_header_of_another_length_is_refused(engine, images, length):
    body, _ = as_binary(images)
    with pytest.raises(RefusalError, match="expected"):
        read_request(body, length, engine)


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: body + b"x"])
def test_bytes_that_are_not_those_of_the_shape_are_refused(engine, images, change):
    body, headers = as_binary(images)
    with pytest.raises(RefusalError, match="where the shape needs"):
        read_request(change(body), headers[HEADER_LENGTH], engine)


def test_a_header_that_ends_too_early_is_no_json(engine, images):
    with pytest.raises(RefusalError, match="no JSON"):
        read_request(as_binary(images)[0], "2", engine)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(engine, body):
    with pytest.raises(RefusalError, match="no JSON"):
        read_request(body, None, engine)


def test_refusals_reach_the_client_as_the_protocol_says(service):
    answer = service.post(INFER, b"{}")
    assert answer.status == 400
    assert "one input" in answer.json["error"]


def test_digits_of_json_stand_for_the_float32_alone():
    logits = np.array([0.1, -26.839108, 1e-30, 3.4e38], np.float32)
    body, _ = write_answer(InferRequest(np.zeros((4, 2, 2, 3), np.uint8), "", False), logits)
    found = json.loads(body)["outputs"][0]["data"]
    np.testing.assert_array_equal(np.array(found, np.float32), logits)
    assert found[0] == 0.1
