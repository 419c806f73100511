"""run_sweep, the one function that drives Ray, and the steps of a sweep before and after it."""

import dataclasses
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import ray.tune

from dynamos.errors import DynamosError, RunError
from dynamos.files import AnyPath
from results.definition.sweep_config import SweepConfig
from results.ledger.lease import LeaseLost
from results.ledger.ledger import Ledger
from results.ledger.study import DATABASE_ERRORS, unusable
from results.ledger.warm_start import DATA
from results.pages.best_config import write_views
from results.sweep import ORDERS_OF
from tune.engine.listener import Listener, Silent
from tune.engine.logs import log_file
from tune.engine.scheduler import LedgerScheduler
from tune.engine.searcher import LedgerSearcher
from tune.engine.trainable import SweepTrial
from tune.engine.workers.actors import HostedTrial, Hosts
from tune.machines.cluster import connected, this_machine
from tune.machines.images import RawImages, shipped_images
from tune.machines.packing import best_packing, kind_of_machine, measure, rates, words
from tune.machines.probe import CODE
from tune.machines.ray_names import workers_as_started
from tune.machines.remembered import FILE, key_of, remember, remembered
from tune.machines.slots import Node, Slots, refuse_unless_fit
from tune.tracking.live_mirror import LiveMirror
from tune.tracking.store import mlflow_uri

# A second signal counts only after this time: SLURM signals every process of a job, and the job's
# script signals its driver as well.
TWICE_SECONDS = 2.0
INTERRUPTED = "interrupted"  # reason of a session that a signal ended
log = logging.getLogger(__name__)


def run_sweep(
    ledger: Ledger,
    more: int = 0,
    address: str | None = None,
    again: Sequence[int] = (),
    listener: Listener | None = None,
) -> str | None:
    """Add `more` trials to the budget, run all trials that are left, and write the views.

    Returns the reason of an early end, or None. The trials whose numbers are in `again` run once
    more. `listener` receives the events.

    The sweep runs on the cluster at `address` (cluster.py), else on a private Ray on this machine.
    A first SIGINT or SIGTERM ends it: running trials are interrupted for `resume`, and the views
    are written. Raises KeyboardInterrupt if the signal comes before Ray is ready, or at a second
    signal.
    """
    config, listener = ledger.config, listener or Silent()
    interrupted = threading.Event()
    here = this_machine(config)
    if address is None:
        refuse_unless_fit(config, [here])
    os.environ.update(
        {
            # Ray's loggers would write a second, partial record and load torch into the driver for
            # TensorBoard.
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
            "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
            "RAY_AIR_NEW_OUTPUT": "0",
            # Ray's snapshots are for a restore that is never used; each holds all trials so far.
            "TUNE_GLOBAL_CHECKPOINT_S": "inf",
            # A stopped trial has saved its whole tasks, and trains the interrupted one again.
            "TUNE_FORCE_TRIAL_CLEANUP_S": "1",
            # All slots may get their workers at once; the searcher suggests no more trials than
            # slots.
            "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
        }
    )
    with (
        _told_in_one_line(ledger),
        _signals(interrupted),
        ledger.driving(),
        listener,
        _log_file(ledger.folder / "sweep.log"),
        connected(address, here) as nodes,
        # For Ray's files, which are for a restore that is never used; trials on other nodes work
        # without them.
        TemporaryDirectory(prefix="dynamos-", ignore_cleanup_errors=True) as rays,
        # again, because Ray's core replaces the handlers when it joins a cluster
        _signals(interrupted),
    ):
        if interrupted.is_set():
            raise KeyboardInterrupt
        ledger.begin()
        if address is None:
            workers_as_started()
        # trials on this machine read the images themselves
        images = None if address is None else shipped_images(config.base)
        slots = Slots(config, nodes, nodes.departures)
        config = _even(config, listener)
        if (config.pack_gpus or config.pack_cohorts) and ledger.left + more + len(again) > 0:
            storage = ledger.folder.parent
            _pack(config, storage, slots, nodes(), images, listener, interrupted)
        ledger.extend(more)  # only now: a session that fails before has added nothing
        ledger.rerun(again)
        listener.begin(slots.count)
        arguments = {
            "base": config.base,
            "seeds": config.seeds,
            "images": images,
            "hashes": {
                name: ledger.record[name] for name in (*DATA, *CODE) if ledger.record.get(name)
            },
            "shuffled": ORDERS_OF in ledger.record,
            "grace_epochs": config.grace_epochs,
        }
        hosts = Hosts(arguments) if slots.hosted else None
        with closing(LiveMirror(ledger, mlflow_uri(ledger))) as mirror:
            searcher = LedgerSearcher(ledger, slots, listener, hosts, listener.say, mirror.start)
            try:
                # These parameters are stored once on each node, and the node's trials share them.
                trainable = (
                    HostedTrial
                    if slots.hosted
                    else ray.tune.with_parameters(SweepTrial, **arguments)
                )
                scheduler = LedgerScheduler(searcher, slots)
                _tuner(trainable, searcher, scheduler, interrupted, rays).fit()
            finally:
                searcher.interrupt()
                if searcher.failure is None:
                    searcher.losers.drop_late()
                    listener.note("writing the results")
                    searcher.failure = _written(ledger)
                listener.note("MLflow is catching up")
        # a signal that comes later finds nothing to end
        over = INTERRUPTED if interrupted.is_set() else searcher.over or ledger.done
    # After a failure `resume` comes next, and it also updates MLflow.
    if mirror.error is not None and searcher.failure is None:
        log.warning(
            "MLflow lags behind the ledger: %s. When it answers again, run: %s",
            mirror.error,
            ledger.command("sync"),
        )
    if searcher.failure is not None:
        raise _told(searcher.failure, ledger)
    return over


def _even(config: SweepConfig, listener: Listener) -> SweepConfig:
    """The configuration, without cohorts to measure if its trials cannot train as one program."""
    if not config.pack_cohorts or (why := config.uneven) is None:
        return config
    listener.say(f"cohort auto: 1, because {why}")
    return dataclasses.replace(config, pack_cohorts=False)


def _pack(
    config: SweepConfig,
    storage: AnyPath,
    slots: Slots,
    nodes: Sequence[Node],
    images: dict[str, RawImages] | None,
    listener: Listener,
    interrupted: threading.Event,
) -> None:
    """Set and report the packing of each kind of machine, measured now or in an earlier session."""
    listener.note("measuring how many trials at a time are fastest")
    of_kind = dict[str, list[Node]]()
    for node in nodes:
        if slots.on(node):
            of_kind.setdefault(kind_of_machine(node), []).append(node)
    cohorts = dict[str, int]()
    for kind, alike in sorted(of_kind.items()):
        key = key_of(config, kind, alike[0])
        known, found = remembered(storage, key), None
        if known is None:
            found = measure(config, alike[0], images, interrupted.is_set)
            best = best_packing(found)
            if not interrupted.is_set():
                remember(storage, key, best, found)
            how = f"total steps per second, {rates(config, found)}"
        else:
            best, day = known
            how = f"measured on {day} ({storage / FILE})"
        listener.say(f"{kind}: {words(config, best)}; {how}")
        if config.pack_gpus:
            slots.pack(alike[0].kind, best.workers)
        cohorts |= {node.id: best.cohort for node in alike}
    slots.join(cohorts)


def _told(failure: Exception, ledger: Ledger) -> DynamosError:
    """The error that ended a session, in one line, with the command that continues the sweep."""
    if isinstance(failure, LeaseLost) or (
        isinstance(failure, DynamosError) and not isinstance(failure, RunError)
    ):
        return failure
    said = str(failure)
    if not isinstance(failure, DynamosError):
        said = unusable(failure)
    return RunError(
        f"{said.rstrip('.')}. All reported results are safe; continue with: "
        f"{ledger.command('resume')}"
    )


@contextmanager
def _told_in_one_line(ledger: Ledger) -> Iterator[None]:
    """Add the command that continues the sweep to errors of the storage and interruptions."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"continue with: {ledger.command('resume')}") from None
    except DATABASE_ERRORS as error:
        raise _told(error, ledger) from error


def _written(ledger: Ledger) -> RunError | None:
    """Write the views; return the error if a file cannot be written, else None."""
    try:
        write_views(ledger)
    except OSError as error:
        return RunError(f"cannot write {error.filename or ledger.folder}: {error.strerror}")
    return None


def _tuner(
    trainable: type[ray.tune.Trainable],
    searcher: LedgerSearcher,
    scheduler: LedgerScheduler,
    interrupted: threading.Event,
    rays: str,
) -> ray.tune.Tuner:
    class Stop(ray.tune.Stopper):
        """Ends the session and its running trials, at an interrupt or when the session is over."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return interrupted.is_set() or searcher.poll()

        def __reduce__(self) -> Any:
            return ray.tune.stopper.NoopStopper, ()  # for the pickled Tuner, never restored

    return ray.tune.Tuner(
        trainable,
        tune_config=ray.tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{trial.config['number']:04d}",
            trial_dirname_creator=lambda trial: (
                f"{trial.config['number']:04d}-{trial.config['attempt']}"
            ),
        ),
        run_config=ray.tune.RunConfig(
            name="sweep",
            storage_path=rays,
            verbose=0,
            stop=Stop(),
            # A trial that lost its worker is interrupted in the ledger, and gets a new attempt as
            # soon as a node has room.
            failure_config=ray.tune.FailureConfig(max_failures=0),
            # The trial saves itself after every task; setup() continues from there.
            checkpoint_config=ray.tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
        ),
    )


@contextmanager
def _log_file(path: AnyPath) -> Iterator[None]:
    """Send the messages of Ray's and our loggers to a file.

    On the screen they would break the listener.
    """
    handler = log_file(path)
    loggers = {"ray.tune": logging.ERROR, "results": logging.WARNING, "tune": logging.WARNING}
    for name, level in loggers.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for name in loggers:
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).propagate = True
        handler.close()


@contextmanager
def _signals(interrupted: threading.Event) -> Iterator[None]:
    """Make a first SIGINT or SIGTERM set the event instead of ending the process."""
    first = math.inf

    def handle(*_: object) -> None:
        nonlocal first
        now = time.monotonic()
        if now - first > TWICE_SECONDS:
            raise KeyboardInterrupt  # a second request ends it at once; `resume` repairs the rest
        first = min(first, now)
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
