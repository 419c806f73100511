"""Latency of the service with many clients, while a sweep of many trials is in its ledger.

    python -m benchmarks.service [--clients 200] [--trials 5000] [--seconds 60] [--every 2]

The service, the clients and a writer, which adds a trial to the ledger each second, are three
processes on the same machine. Half of the clients poll the sweep at intervals; the others listen to
events: half of these to the events of the sweep with its trials, as its page does, the rest to the
events of all sweeps.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import requests

from benchmarks.definitions import entered_sweep
from dynamos.metrics import TaskResult
from results.ledger.ledger import Ledger

NAME = "large"


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between a client's polls")
    given = parser.parse_args()
    with running(given.trials) as (url, process):
        took, events = asyncio.run(
            _load(int(url.rpartition(":")[2]), given.clients, given.seconds, given.every)
        )
        memory = next(
            line.split()[1]
            for line in Path(f"/proc/{process}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
    cuts = statistics.quantiles(took, n=100)
    print(
        f"{given.clients // 2} clients poll every {given.every:g} s, {given.clients // 2} listen: "
        f"{len(took)} polls, {len(took) / given.seconds:.0f} a second; p50 {cuts[49] * 1e3:.0f} "
        f"ms, p95 {cuts[94] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms, worst "
        f"{max(took) * 1e3:.0f} ms"
    )
    print(
        f"{events} events came, {events / given.seconds:.0f} a second; the service takes "
        f"{int(memory) / 1e3:.0f} MB"
    )


@contextmanager
def running(trials: int) -> Iterator[tuple[str, int]]:
    """(address, process id) of a service with a growing sweep NAME of N trials."""
    config = entered_sweep(NAME, trials + 10_000)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.create(Path(folder), config, {})
        with ledger.driving():
            for number in range(trials):
                _trial(ledger, number)
        print(f"{trials} trials are in the ledger", flush=True)
        server = subprocess.Popen(
            [sys.executable, "-m", "tune.cli", "serve", "--storage", folder, "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        url = server.stdout.readline().split()[3]
        processes = get_context("spawn")
        grows, over = processes.Event(), processes.Event()
        growing = processes.Process(target=_grow, args=(folder, trials, grows, over))
        try:
            began = time.monotonic()
            requests.get(f"{url}/api/v1/sweeps/{NAME}", timeout=300).raise_for_status()
            print(f"first read: {time.monotonic() - began:.1f} s", flush=True)
            growing.start()
            grows.wait()
            yield url, server.pid
        finally:
            over.set()
            growing.join()
            server.terminate()
            server.wait()


def _trial(ledger: Ledger, number: int) -> None:
    asked = ledger.ask()
    metrics = {name: 50.0 + number % 40 for name in ledger.config.metrics}
    result = TaskResult.of_metrics(metrics | {"task": 0, "n_tasks": 1, "steps": 10})
    ledger.add_result(asked.number, asked.attempt, ledger.config.base.seed, result)
    ledger.finish(asked.number, "COMPLETE")


def _grow(folder: str, number: int, grows: Event, over: Event) -> None:
    ledger = Ledger.open(Path(folder), NAME)
    with ledger.driving():
        _trial(ledger, number)
        grows.set()
        while not over.wait(1):
            number += 1
            _trial(ledger, number)


async def _load(port: int, clients: int, seconds: float, every: float) -> tuple[list[float], int]:
    """(seconds of each poll, number of events)."""
    until = time.monotonic() + seconds
    took: list[float] = []
    events = 0

    async def poll(wait: float) -> None:
        await asyncio.sleep(wait)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            began = time.monotonic()
            writer.write(f"GET /api/v1/sweeps/{NAME} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.startswith(b"content-length")
            )
            json.loads(await reader.readexactly(length))
            took.append(time.monotonic() - began)
            await asyncio.sleep(every)
        writer.close()

    async def listen(query: bytes) -> None:
        nonlocal events
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        writer.write(b"GET /api/v1/events%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % query)
        while (left := until - time.monotonic()) > 0:
            try:
                line = await asyncio.wait_for(reader.readline(), left)
                events += line.startswith(b"event: ")
            except TimeoutError:
                break
        writer.close()

    await asyncio.gather(
        *(poll(every * i / clients) for i in range(clients // 2)),
        *(listen(b"?sweep=large" if i % 2 else b"") for i in range(clients - clients // 2)),
    )
    return took, events


if __name__ == "__main__":
    main()
