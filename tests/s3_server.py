"""A real S3 server on loopback, moto's, in a process of its own that ends with the one that started it; and a proxy
that breaks connections as networks do."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

from waiting import wait_for

HOST = "127.0.0.1"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# Nothing of the machine's own settings, and no question to the network of a cloud.
SETTINGS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_PR_SET_PDEATHSIG = 1
_ROOT = Path(__file__).resolve().parents[1]


class S3Server:
    """The server, with what a process needs to find it."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", HOST, "-p", str(self.port)]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, env=os.environ | environment, preexec_fn=end_with_parent
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the S3 server ended"
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            return True
        return False

    def environment(self, url: str | None = None, *, keys: bool = True) -> dict[str, str]:
        """Variables by which S3's own settings lead here, or to another address."""
        return SETTINGS | (KEYS if keys else {}) | {"AWS_ENDPOINT_URL_S3": url or self.url}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Bucket:
    """A bucket as another client than the product's sees it."""

    def __init__(self, url: str) -> None:
        import boto3

        self.name = f"b-{uuid4().hex[:12]}"
        session = boto3.Session(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        self._client: Any = session.client("s3", endpoint_url=url)
        self._client.create_bucket(Bucket=self.name)

    def url(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> str:
        self._client.put_object(Bucket=self.name, Key=key, Body=content)
        return self.url(key)

    def get(self, key: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        found = self._client.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", [])
        return [entry["Key"] for entry in found]

    def contents(self, prefix: str = "") -> dict[str, bytes]:
        return {key: self.get(key) for key in self.keys(prefix)}


class Proxy:
    """Passes bytes on to a server until a direction has carried so many; then it breaks the connection, or stalls."""

    def __init__(self, port: int, *, most_up: int = 1 << 40, most_down: int = 1 << 40, stall: bool = False) -> None:
        self._target, self._most, self._stall = port, (most_up, most_down), stall
        self.is_full = threading.Event()
        self._sockets = [socket.create_server((HOST, 0))]
        self.url = f"http://{HOST}:{self._sockets[0].getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                server = socket.create_connection((HOST, self._target))
                self._sockets += [client, server]
                for source, target, most in ((client, server, self._most[0]), (server, client, self._most[1])):
                    self._threads.append(threading.Thread(target=self._carry, args=(source, target, most)))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 14):
                target.sendall(chunk[:left])
                left -= len(chunk)
                if left <= 0:
                    self.is_full.set()
                    if self._stall:
                        return
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def end_with_parent() -> None:
    """The kernel ends this process when the one that started it is gone, however that ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def command_environment(variables: dict[str, str]) -> dict[str, str]:
    """The environment of a process of this checkout's command line, without keys of the one that starts it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FSSPEC_"))}
    return kept | {"PYTHONPATH": str(_ROOT)} | variables
