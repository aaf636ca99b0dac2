"""A service in a process of its own, as it is started by users, and a plain client."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A loaded machine takes its time to import and to warm up; nothing is judged by how long that was.
PATIENCE_S = 60


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ServiceProcess:
    """A running ``lfm-deploy serve``."""

    def __init__(self, workdir: Path, *options: str) -> None:
        command = [sys.executable, "-m", "lfm_deploy", "serve", "--workdir", str(workdir), "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self.lines.append("")  # nothing more will come
            self._changed.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first message that matches; a process that ends without one is a failure."""

        def find() -> re.Match[str] | None:
            return next((found for line in self.lines if (found := re.search(pattern, line))), None)

        with self._changed:
            self._changed.wait_for(lambda: find() or self.lines[-1:] == [""], PATIENCE_S)
            found = find()
        assert found is not None, "\n".join(self.lines)
        return found

    @property
    def port(self) -> int:
        return int(self.wait_for(r"listening on http://127\.0\.0\.1:(\d+)")[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            found = connection.getresponse()
            return Answer(found.status, {key.lower(): value for key, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        return self.ask("POST", path, body, headers)

    def figure(self, name: str) -> float:
        """A figure of /metrics."""
        text = self.get("/metrics").body.decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_until(self, name: str, value: float) -> None:
        """Wait until a figure is at least so large."""
        until = time.monotonic() + PATIENCE_S
        while self.figure(name) < value:
            assert time.monotonic() < until, f"{name} stays below {value}"
            time.sleep(0.01)

    def ask_to_end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def run_service(workdir: Path, *options: str) -> Iterator[ServiceProcess]:
    """A service that is ready."""
    service = ServiceProcess(workdir, *options)
    try:
        service.wait_for("^ready")
        yield service
    finally:
        service.close()
