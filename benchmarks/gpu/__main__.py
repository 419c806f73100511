"""Speed of training on one GPU, in at most eight minutes.

    python -m benchmarks.gpu [--data-path DIR] [--out runs/gpu] [--budget 480] [--only PART ...]
    python -m benchmarks.gpu --dry      all parts at tiny sizes on the CPU, in a minute or two

Parts: the machine; whether graph and eager steps agree, and cohort and Trainer; one run with eager
steps, by graph and compiled, in bf16 and TF32; cohorts of 1 to 128 runs; processes that share the
GPU; the plain version of the method, which has the original program's operations; sweeps of 64
trials, by processes and as one program; a full run on seq-mnist, if --data-path has its images;
evaluation.

Each part is a process with a time limit. A part that fails is one line. gpu.md and gpu.json in
--out are written anew after each part. Times are wall time of training steps, batches of 10 + 10
images at nf 32, the drawing of images and random numbers included, on the digits enlarged to 28x28.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path

from benchmarks.gpu.limits import run
from benchmarks.gpu.rows import Report, read

LEAST_SECONDS = 10.0  # a part is not started with less time
DRY_PATIENCE = 5.0  # a CPU may be busy with other programs: times the limit of a part on a GPU


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and print the table.

    Returns 1 if a part failed, 2 if nothing can be run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds for all parts")
    parser.add_argument("--data-path", type=Path, help="folder that holds MNIST")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder for the files")
    parser.add_argument("--only", nargs="+", metavar="PART", help="run these parts only")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # in the process of a part
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # in a process of the part `processes`
    given = parser.parse_args(arguments)
    if given.part or given.worker:
        return child(given)
    return parent(given, sys.argv[1:] if arguments is None else arguments)


def child(given: argparse.Namespace) -> int:
    """Do one part."""
    from benchmarks.gpu.bench import Bench
    from benchmarks.gpu.parts import PARTS
    from benchmarks.gpu.sharing import work

    file = rows_file(given.out, given.part or "processes")
    bench = Bench(given.dry, given.data_path, given.out, file)
    if given.worker:
        work(bench, given.worker)
    else:
        PARTS[given.part].run(bench)
    return 0


def parent(given: argparse.Namespace, arguments: list[str]) -> int:
    """Run the parts, one process each, and write the files after each."""
    import torch

    from benchmarks.gpu.parts import PARTS
    from dynamos.errors import unknown

    strange = [unknown("part", name, PARTS) for name in given.only or () if name not in PARTS]
    if strange:
        print(strange[0], file=sys.stderr)
        return 2
    if not given.dry and not torch.cuda.is_available():
        print("no CUDA device here; --dry runs all parts on the CPU.", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    report = Report(shlex.join(["python", "-m", "benchmarks.gpu", *arguments]))
    began = time.perf_counter()
    for name in given.only or PARTS:
        file = rows_file(given.out, name)
        file.unlink(missing_ok=True)
        left = given.budget - (time.perf_counter() - began)
        if left < LEAST_SECONDS:
            failure: str | None = "no time left"
        else:
            command = [sys.executable, "-m", "benchmarks.gpu", "--part", name]
            command += ["--out", str(given.out), *(["--dry"] if given.dry else [])]
            command += [] if given.data_path is None else ["--data-path", str(given.data_path)]
            limit = PARTS[name].limit * (DRY_PATIENCE if given.dry else 1.0)
            failure = run(command, given.out / f"{name}.log", min(limit, left))
        report.rows += read(file)
        if failure is not None:
            report.failures.append((name, failure))
        report.seconds = time.perf_counter() - began
        report.write(given.out)
        print(f"{name}: {failure or 'done'}, {report.seconds:.0f} s so far", flush=True)
    print(f"\n{report.markdown()}\n{given.out / 'gpu.md'}")
    return 1 if report.failures else 0


def rows_file(folder: Path, part: str) -> Path:
    """The file with the rows of a part."""
    return folder / f"{part}.jsonl"


if __name__ == "__main__":
    sys.exit(main())
