"""Several processes, one run each, that share a device."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack

from benchmarks.gpu.bench import Bench, one
from benchmarks.gpu.rows import Row

SECONDS = 4.0


def part_processes(bench: Bench) -> None:
    """Processes that share the device, with eager steps and by graph."""
    for count in (2,) if bench.dry else (4, 8):
        for step_mode in ("eager", "graph"):
            with bench.tried(f"{count} processes, {step_mode}"):
                _share(bench, count, step_mode)


def _share(bench: Bench, count: int, step_mode: str) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", f"--worker={step_mode}"]
    command += ["--dry"] if bench.dry else []
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        workers = []
        for _ in range(count):
            worker = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe)
            workers.append(stack.enter_context(worker))
            stack.callback(worker.kill)
        _each(workers, "ready")
        for worker in workers:
            print("go", file=worker.stdin, flush=True)
        time.sleep(SECONDS / 2 if not bench.dry else 0)
        memory = _device_mib()
        rates = [float(line) for line in _each(workers, "rate")]
    bench.add(
        Row(
            what=f"{count} processes, {step_mode}",
            size=bench.size,
            runs=count,
            seconds=count / sum(rates),
            mib=memory,
            note=f"slowest {min(rates):.0f}, fastest {max(rates):.0f} steps/s; memory of the "
            "whole device",
        )
    )


def _each(workers: "list[subprocess.Popen[str]]", word: str) -> list[str]:
    """The rest of each worker's next line that begins with a word."""
    rests = []
    for worker in workers:
        assert worker.stdout is not None
        rest = next((line for line in worker.stdout if line.startswith(word)), None)
        if rest is None:
            raise RuntimeError("a process ended before it had trained")
        rests.append(rest.removeprefix(word))
    return rests


def work(bench: Bench, step_mode: str) -> None:
    """Train one run as a process of `part_processes`: get ready, wait, train, print the rate."""
    step = one(bench.config(os.getpid() % 1000, step_mode=step_mode), bench.stream())
    bench.seconds(step)
    print("ready", flush=True)
    sys.stdin.readline()
    began, steps = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < (0.3 if bench.dry else SECONDS):
        for _ in range(5):
            step()
        bench.wait()
        steps += 5
    print(f"rate {steps / took}", flush=True)


def _device_mib() -> float | None:
    """Memory in use on the first GPU; None without nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, text=True, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return float(found.stdout.split()[0])
