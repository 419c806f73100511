"""run_sweep: the one function that drives Ray, and what a sweep needs before and after it."""

import logging
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import ray
import ray.tune
import torch

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.provenance import git_revision, now_utc
from dynamos.trainer import Trainer, pick_device
from results.best import best, export
from results.frame import write_trials
from results.ledger import Ledger, SweepConfig
from tune.display import Display
from tune.searcher import LedgerSearcher
from tune.tracking import LiveMirror
from tune.trainable import SweepTrial

LIBRARIES = ("dynamos", "ray", "optuna", "mlflow", "torch", "numpy", "scikit-learn")
WORKER_RETRIES = 3  # of one trial whose worker or node was lost; its own errors are not retried


def data_record(base: TrainConfig) -> dict[str, Any]:
    """What sweep.yaml says beside the configuration; UserError where the base cannot be trained here."""
    pick_device(base.device)
    stream = Trainer(base.replace(device="cpu")).stream
    return {"created_at": now_utc(), "git_revision": git_revision(), "data_hash": stream.data_hash,
            "validation_hash": stream.split_hash, "versions": {name: version(name) for name in LIBRARIES}}


def create_sweep(storage: Path, config: SweepConfig) -> Ledger:
    """The ledger of a new sweep; UserError if its name is taken, its data is missing or no trial fits the machine."""
    slots(config, local_resources())
    return Ledger.create(storage, config, data_record(config.base))


def run_sweep(ledger: Ledger, more: int = 0) -> bool:
    """Adds `more` trials to the budget, runs what it still holds, writes the views; whether it ended undisturbed.

    A first SIGINT or SIGTERM ends it: what runs is put back for `resume`, the views are written, the answer is False.
    """
    config = ledger.config
    os.environ.update({
        # Ray's own loggers would write a second, partial record and load torch into the driver for TensorBoard.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_AIR_NEW_OUTPUT": "0", "TUNE_MAX_PENDING_TRIALS_PG": "1"})
    interrupted = threading.Event()
    resources = local_resources()
    places = slots(config, resources)
    with (ledger.driving(), _signals(interrupted), Display(ledger, more) as display,
          _local_ray(resources, ledger.folder / "ray.log")):
        ledger.extend(more)
        ledger.begin()
        mirror = LiveMirror(ledger, mlflow_uri(ledger.folder.parent), ledger.folder.parent / "mlartifacts")
        display.begin(places)
        budget = config.time_budget_seconds
        searcher = LedgerSearcher(ledger, places, [display, mirror], None if budget is None
                                  else time.monotonic() + budget)
        ray_folder = ledger.folder / "ray"
        try:
            _tuner(config, searcher, interrupted, ray_folder).fit()
        finally:
            searcher.interrupt()
            display.note("writing the results")
            write_views(ledger)
            mirror.close()
        shutil.rmtree(ray_folder, ignore_errors=True)
    if mirror.error is not None:
        logging.getLogger(__name__).warning("MLflow is behind the ledger: %s", mirror.error)
    return not interrupted.is_set()


def write_views(ledger: Ledger) -> None:
    """Writes trials.csv and, where there is a finished trial, best_config.yaml from the ledger."""
    write_trials(ledger)
    chosen = best(ledger.trials())
    if chosen is not None:
        export(ledger, chosen)


def mlflow_uri(storage: Path) -> str:
    """The MLflow store that the sweeps of a storage folder share."""
    return f"sqlite:///{storage / 'mlflow.db'}"


def _tuner(config: SweepConfig, searcher: LedgerSearcher, interrupted: threading.Event,
           folder: Path) -> ray.tune.Tuner:
    class Stop(ray.tune.Stopper):
        """Ends the run, and with it what still trains, at an interrupt or when the time is spent."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return interrupted.is_set() or searcher.out_of_time

        def __reduce__(self) -> Any:
            return ray.tune.stopper.NoopStopper, ()  # for the pickled Tuner that is never restored

    resources = {"CPU": config.cpus_per_trial, "GPU": config.gpus_per_trial}
    return ray.tune.Tuner(
        ray.tune.with_resources(SweepTrial, resources),
        tune_config=ray.tune.TuneConfig(
            search_alg=searcher, num_samples=-1, reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{trial.config['number']:04d}",
            trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}-{trial.config['attempt']}"),
        run_config=ray.tune.RunConfig(
            name=f"session-{time.time_ns()}", storage_path=str(folder), verbose=0, stop=Stop(),
            failure_config=ray.tune.FailureConfig(max_failures=WORKER_RETRIES),
            # The trial saves itself at every task border; setup() goes on from there.
            checkpoint_config=ray.tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False)))


def local_resources() -> dict[str, float]:
    """CPUs that this process may use, by affinity and container, and GPUs that torch sees."""
    return {"CPU": joblib.cpu_count(), "GPU": torch.cuda.device_count()}


def slots(config: SweepConfig, resources: dict[str, float]) -> int:
    """Trials that fit at a time; UserError if not one does."""
    fits = math.inf
    for kind, wanted in (("CPU", config.cpus_per_trial), ("GPU", config.gpus_per_trial)):
        if wanted:
            if resources[kind] < wanted:
                raise UserError(f"--{kind.lower()}s-per-trial {wanted:g} is more than there is: {resources[kind]:g}.")
            fits = min(fits, resources[kind] // wanted)
    return int(min(fits, config.max_concurrent or math.inf))


@contextmanager
def _local_ray(resources: dict[str, float], log_file: Path) -> Iterator[None]:
    """A Ray of this machine's own for the time of the sweep. Its log would break the display."""
    ray.init(address="local", num_cpus=int(resources["CPU"]), num_gpus=int(resources["GPU"]), include_dashboard=False,
             log_to_driver=False, logging_level=logging.ERROR)
    tune_log = logging.getLogger("ray.tune")
    handler = logging.FileHandler(log_file, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    tune_log.setLevel(logging.ERROR)
    tune_log.addHandler(handler)
    tune_log.propagate = False
    try:
        yield
    finally:
        ray.shutdown()
        tune_log.removeHandler(handler)
        handler.close()


@contextmanager
def _signals(interrupted: threading.Event) -> Iterator[None]:
    """While it lasts, a first SIGINT or SIGTERM sets the event instead of ending the process."""

    def handle(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt  # asked twice: at once, and `resume` tidies up
        interrupted.set()

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.signal(kind, handle) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


