"""What a service makes of what the engine can do: requests a second as a share of ``predict``, and what it loses.

    python benchmarks/serve_load.py deploy photos/
    python benchmarks/serve_load.py deploy photos/ --requests 10000

In each round ``predict`` judges the files in this process, and then clients on loopback post the same files to
``lfm-deploy serve``, each as soon as its last answer is there; who goes first changes from round to round, so that a
machine that slows down slows both. A rate is of a window behind a ramp. The clients run on the same cores; what they
and the service take of them for a picture is told beside what ``predict`` takes.

With --requests, so many are posted, and of eight every one is damaged: cut, changed, empty, of no known format, or its
connection is closed half-way. Each must have the answer that its body had at first, alone, and the service's memory
must not grow.
"""

import asyncio
import itertools
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from engines.host import keep_freed_memory
from lfm_deploy.errors import GateError
from lfm_deploy.pictures.images import find_images
from lfm_deploy.pictures.sources import file_source
from lfm_deploy.prediction.judges import Judge, open_judge
from lfm_deploy.prediction.prediction import predict_groups
from lfm_deploy.workdir import Workdir

_TICKS = os.sysconf("SC_CLK_TCK")
_DAMAGED_EVERY = 8
_MIB = 1 << 20


@dataclass(frozen=True)
class Slice:
    """What one stretch of work came to; ``cpu_ms`` is of all processes that took part, a picture."""

    rate: float
    cpu_ms: float
    latencies_ms: list[float]


class Client(asyncio.Protocol):
    """One connection that posts whole requests and waits for each answer; it parses no more than it must."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._received, self._wanted = bytearray(), 0
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Of asyncio: it is open."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Of asyncio: a part of an answer."""
        self._received += data
        if not self._wanted and (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = self._received[:end].lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            self._head, self._wanted = end + 4, end + 4 + int(length)
        if self._wanted and len(self._received) >= self._wanted and self._answer is not None:
            status, body = int(self._received[9:12]), bytes(self._received[self._head : self._wanted])
            self._received, self._wanted = bytearray(), 0
            self._answer.set_result((status, body))

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio: it is closed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the service closed the connection"))

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        head = f"POST /v1/verdict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.transport.write(head + body)
        return await self._answer


async def connect(port: int) -> Client:
    """A new connection."""
    return (await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port))[1]


@contextmanager
def run_service(workdir: Path, precision: str) -> Iterator[tuple[int, int]]:
    """Process and port of a service that is ready."""
    command = [sys.executable, "-m", "lfm_deploy", "serve", "--workdir", str(workdir), "--precision", precision]
    process = subprocess.Popen([*command, "--port", "0", "--no-evidence"], stderr=subprocess.PIPE, text=True)
    try:
        port = 0
        for line in process.stderr or ():
            click.echo(line.rstrip(), err=True)
            port = int(line.rpartition(":")[2]) if line.startswith("listening") else port
            if line.startswith("ready"):
                break
        else:
            raise GateError("the service has not become ready; what it said stands above")
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def measure_predict(judge: Judge, paths: list[Path], ramp_s: float, seconds: float) -> Slice:
    """Rows a second of ``predict`` over files that never end."""
    groups = predict_groups(judge, map(file_source, itertools.cycle(paths)))
    begun = time.monotonic()
    while time.monotonic() - begun < ramp_s:
        next(groups)
    started, cpu, rows = time.monotonic(), time.process_time(), 0
    while time.monotonic() - started < seconds:
        rows += len(next(groups))
    took, used = time.monotonic() - started, time.process_time() - cpu
    groups.close()  # type: ignore[attr-defined]  # a generator
    return Slice(rows / took, 1000 * used / rows, [])


def load_service(port: int, pid: int, bodies: list[bytes], clients: int, ramp_s: float, seconds: float) -> Slice:
    """Answers a second that so many clients get; in a process of its own."""

    async def main() -> Slice:
        turns, latencies, measuring, ending = itertools.cycle(bodies), list[float](), False, False

        async def work() -> None:
            client = await connect(port)
            while not ending:
                asked = time.monotonic()
                status, _ = await client.post(next(turns))
                if status != 200:
                    raise GateError(f"a good picture was answered with {status}")
                if measuring:
                    latencies.append(1000 * (time.monotonic() - asked))
            client.transport.close()

        tasks = [asyncio.create_task(work()) for _ in range(clients)]
        await asyncio.sleep(ramp_s)
        started, cpu, measuring = time.monotonic(), time.process_time() + cpu_seconds(pid), True
        await asyncio.sleep(seconds)
        took, used, count = time.monotonic() - started, time.process_time() + cpu_seconds(pid) - cpu, len(latencies)
        measuring, ending = False, True
        await asyncio.gather(*tasks)
        return Slice(count / took, 1000 * used / max(1, count), latencies)

    return asyncio.run(main())


def cpu_seconds(pid: int) -> float:
    """Time of the cores that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def damage(body: bytes, index: int) -> bytes | None:
    """A damaged body, of one kind after the other; None for a connection that is closed half-way."""
    kinds = [
        body[: len(body) // 2],
        body[:200] + bytes(64) + body[264:],
        b"",
        b"no picture" * 50,
        None,
        bytes([body[0] ^ 255]) + body[1:],
    ]
    return kinds[index % len(kinds)]


def post_damaged(port: int, pid: int, bodies: list[bytes], requests: int, clients: int) -> None:
    """Post good and damaged bodies, compare each answer with the first of its kind, and watch the memory."""

    async def main() -> None:
        first: dict[bytes, tuple[int, bytes]] = {}
        numbers, lost, memory = iter(range(requests)), list[int](), dict[int, float]()

        async def ask(client: Client, body: bytes) -> tuple[int, bytes]:
            status, content = await client.post(body)
            values = json.loads(content)
            return status, json.dumps([values.get("reason"), values["rows"]]).encode()

        alone = await connect(port)
        for index, body in enumerate(bodies):
            for content in (body, damage(body, index)):
                if content is not None:
                    first[content] = await ask(alone, content)

        async def work() -> None:
            client = await connect(port)
            for number in numbers:
                index = number % len(bodies)
                content = damage(bodies[index], index) if number % _DAMAGED_EVERY == 0 else bodies[index]
                if number % 1000 == 0:
                    memory[number] = resident_mib(pid)
                if content is None:
                    client.transport.write(b"POST /v1/verdict HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nhalf")
                    client.transport.close()
                    client = await connect(port)
                elif await ask(client, content) != first[content]:
                    lost.append(number)

        await asyncio.gather(*(work() for _ in range(clients)))
        memory[requests] = resident_mib(pid)
        statuses = sorted({status for status, _ in first.values()})
        click.echo(
            f"{requests} requests by {clients} clients, {len(lost)} answered otherwise than at first; {statuses}"
        )
        click.echo("memory in MiB: " + ", ".join(f"{number}: {size:.0f}" for number, size in sorted(memory.items())))
        if lost:
            raise GateError(f"requests {lost[:10]} were not answered as before")

    asyncio.run(main())


@click.command()
@click.argument("workdir", type=click.Path(path_type=Path))
@click.argument("pictures", type=click.Path(path_type=Path))
@click.option("--precision", default="fp32", show_default=True)
@click.option("--clients", default="1,8,64", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=6.0, show_default=True)
@click.option("--ramp", default=2.0, show_default=True)
@click.option("--files", default=400, show_default=True, help="Pictures of the folder, evenly spread.")
@click.option("--requests", default=0, help="Post so many, some of them damaged, and measure nothing else.")
def main(
    workdir: Path,
    pictures: Path,
    precision: str,
    clients: str,
    rounds: int,
    seconds: float,
    ramp: float,
    files: int,
    requests: int,
) -> None:
    """Measure a service against predict, or post damaged bodies to it."""
    keep_freed_memory()
    found = find_images(pictures)
    paths = found[:: max(1, len(found) // files)]
    bodies = [path.read_bytes() for path in paths]
    with run_service(workdir, precision) as (pid, port):
        if requests:
            post_damaged(port, pid, bodies, requests, 64)
            return
        judge = open_judge(Workdir(workdir), precision=precision)
        results: dict[str, list[Slice]] = {}
        names = ["predict", *clients.split(",")]
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            for number in range(rounds):
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    if name == "predict":
                        result = measure_predict(judge, paths, ramp, seconds)
                    else:
                        result = pool.submit(load_service, port, pid, bodies, int(name), ramp, seconds).result()
                    results.setdefault(name, []).append(result)
        show(results)


def show(results: dict[str, list[Slice]]) -> None:
    """A line for each number of clients; shares are medians over rounds of shares within a round."""
    reference = results.pop("predict")
    click.echo(
        f"predict: {statistics.median(part.rate for part in reference):.1f} pictures a second, "
        f"{statistics.median(part.cpu_ms for part in reference):.1f} ms of a core a picture"
    )
    for name, parts in results.items():
        shares = [part.rate / base.rate for part, base in zip(parts, reference, strict=True)]
        costs = [base.cpu_ms / part.cpu_ms for part, base in zip(parts, reference, strict=True)]
        latencies = np.concatenate([part.latencies_ms for part in parts])
        p50, p99 = np.percentile(latencies, [50, 99]) if len(latencies) else (np.nan, np.nan)
        click.echo(
            f"{name} clients: {statistics.median(part.rate for part in parts):.1f} a second, "
            f"{100 * statistics.median(shares):.0f} % of predict ({100 * min(shares):.0f} to {100 * max(shares):.0f}); "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms; {100 * statistics.median(costs):.0f} % of predict by cores' time"
        )


if __name__ == "__main__":
    main()
