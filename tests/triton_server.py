"""A real Triton Inference Server without a GPU: the one in the wheel of nvidia-pytriton, with its Python backend."""

import ctypes.util
import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from apart import install_apart, unpack_apart

PATIENCE_S = 120
_WHEEL = "nvidia-pytriton==0.7.0"
# The server's Python backend was built against NumPy 1, and reads nonsense through 2.
_NUMPY = "numpy==1.26.4"


class TritonServer:
    """A running server. Models that cannot be loaded do not keep it from starting."""

    def __init__(self, cache: pytest.Cache, repository: Path, log: Path) -> None:
        root = unpack_apart(cache, _WHEEL)
        numpy = install_apart(cache, _NUMPY)
        server = root / "pytriton" / "tritonserver"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        if not stub.is_file() or ctypes.util.find_library(f"python{version}") is None:
            pytest.skip(f"Triton's Python backend needs libpython{version}.so, which is not on this machine")
        shutil.copy(stub, server / "backends" / "python" / stub.name)
        for program in (server / "bin" / "tritonserver", server / "backends" / "python" / stub.name):
            program.chmod(0o755)
        self.log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        paths = [str(numpy), str(Path(__file__).resolve().parents[1]), *(path for path in sys.path if "site-" in path)]
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(root / "nvidia_pytriton.libs"),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        options = {
            "model-repository": repository,
            "backend-directory": server / "backends",
            "allow-gpu-metrics": "false",
            "allow-metrics": "false",
            "allow-grpc": "false",
            "exit-on-error": "false",
            "http-address": "127.0.0.1",
            "http-port": self.port,
        }
        command = [str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
        with log.open("w") as written:
            self.process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, env=environment)

    def wait(self) -> None:
        """Wait until it listens."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.ask("GET", "/v2/health/live")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text(errors="replace")[-3000:])

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def states(self) -> dict[str, tuple[str, str]]:
        """State of each model, and the reason."""
        _, body = self.ask("POST", "/v2/repository/index")
        return {model["name"]: (model.get("state", ""), model.get("reason", "")) for model in json.loads(body)}

    def infer(self, model: str, inputs: dict[str, tuple[str, list[int], bytes]]) -> dict[str, Any]:
        """Outputs by name; inputs are datatype, shape and bytes by name."""
        header = {
            "inputs": [
                {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(content)}}
                for name, (kind, shape, content) in inputs.items()
            ]
        }
        text = json.dumps(header).encode()
        body = text + b"".join(content for _, _, content in inputs.values())
        headers = {"Inference-Header-Content-Length": str(len(text))}
        status, answer = self.ask("POST", f"/v2/models/{model}/infer", body, headers)
        assert status == 200, answer[:1000]
        return {output["name"]: output["data"] for output in json.loads(answer)["outputs"]}


def pack(strings: list[bytes]) -> tuple[str, list[int], bytes]:
    """A column of strings as an input."""
    return "BYTES", [len(strings), 1], b"".join(struct.pack("<I", len(part)) + part for part in strings)
