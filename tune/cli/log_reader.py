"""Prints the logs of a sweep and of its trials, as they are or as they grow."""

import time
from collections.abc import Callable, Sequence

from dynamos.errors import UserError
from dynamos.files import AnyPath
from results.ledger.ledger import Ledger
from results.names import ENDED
from tune.cli.terminal import say
from tune.machines.status import for_people

POLL_SECONDS = 0.5


def print_logs(ledger: Ledger, trial: int | None, follow: bool) -> None:
    """Print the logs of a sweep and of its newest driver, or the logs of a trial.

    With `follow`, also print what is added to them while it runs.
    """
    name = ledger.config.name
    if trial is not None and not 0 <= trial < (trials := len(ledger.trials())):
        raise UserError(f"--trial {trial}: {name} has trials 0 to {trials - 1}.")

    def over() -> bool:
        return (
            ledger.driver is None
            or ledger.driver_gone
            or (trial is not None and ledger.trial(trial).state in ENDED)
        )

    if _printed(
        lambda: _of_sweep(ledger) if trial is None else _of_trial(ledger, trial),
        over if follow else None,
    ):
        return
    if trial is not None:
        say(f"Trial {trial} of {name} has an empty log: {ledger.trial_folder(trial)}")
        return
    say(
        f"{name} has no log: no problem occurred outside its trials. Its drivers write to the "
        "terminals that started them. Drivers that run as jobs write to the cluster's job server; "
        "to read their output, add --address URL."
    )


def _of_sweep(ledger: Ledger) -> list[AnyPath]:
    drivers: list[AnyPath] = [*ledger.folder.glob("driver-*.log")]
    drivers.sort(key=lambda path: int(path.stem.removeprefix("driver-")))
    files: list[AnyPath] = [ledger.folder / "sweep.log", *drivers[-1:]]
    return [path for path in files if path.is_file()]


def _of_trial(ledger: Ledger, trial: int) -> list[AnyPath]:
    attempts = [
        ledger.trial_folder(trial) / f"attempt-{i}"
        for i in range(1, ledger.trial(trial).attempt + 1)
    ]
    files: list[AnyPath] = [
        attempt / name for attempt in attempts for name in ("log.txt", "traceback.txt")
    ]
    return [path for path in files if path.is_file()]


def _printed(files: Callable[[], Sequence[AnyPath]], over: Callable[[], bool] | None) -> bool:
    """Print files and return True if anything was printed.

    With `over`, also print what is added to them, until `over` returns True.
    """
    places: dict[AnyPath, int] = {}  # bytes printed of each
    latest = None
    while True:
        last = over is None or over()  # asked before reading, so that nothing is missed
        for path in files():
            with path.open("rb") as file:
                file.seek(places.get(path, 0))
                content = file.read()
            if not last:
                content = content[: content.rfind(b"\n") + 1]
            places[path] = places.get(path, 0) + len(content)
            text = for_people(content.decode(errors="replace"))
            if text.strip() and path != latest:
                print(f"== {path} ==")
                latest = path
            print(text, end="" if text.endswith("\n") or not text else "\n", flush=True)
        if last:
            return latest is not None
        time.sleep(POLL_SECONDS)
