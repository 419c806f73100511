"""Changes that requests make: sweeps are created, resumed and confirmed; drivers do the work."""

import threading
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import fields, replace

from dynamos.errors import UserError
from dynamos.fields import settings
from results.choice import Choice
from results.definition.sweep_config import SweepConfig, code_in
from results.ledger.ledger import Ledger
from search_spaces.space import SearchSpace
from tune.engine.suggestions import Tried, first_suggestions
from tune.service.state.drivers import Drivers
from tune.service.state.sweeps import Sweeps
from tune.service.state.views import View
from tune.service.wire.bodies import Confirmation, Extension, Limits, requested_space
from tune.service.wire.problems import Problem

_OF_A_SESSION = {
    name: f"--{about.flag}"
    for name, about in settings(SweepConfig).items()
    if about.session and about.flag
}
_RUNS = ("starting", "running", "stopping")


class Changes:
    """Makes changes one at a time: of two equal requests at once, the second changes nothing."""

    def __init__(
        self,
        sweeps: Sweeps,
        drivers: Drivers,
        of_the_service: Mapping[str, str | None],
        allowed: Collection[str] = (),
    ) -> None:
        """Start nothing yet.

        Args:
            sweeps: the sweeps of the service.
            drivers: starts their processes.
            of_the_service: data_path, ledger_url and tracking_uri of every sweep made here.
            allowed: code in files, FILE.py:NAME, that a request may name. No other file is
                imported.
        """
        self._allowed = {*allowed}
        self.of_the_service = of_the_service
        self._sweeps, self._drivers = sweeps, drivers
        self._lock = threading.Lock()

    def tried(self, config: SweepConfig) -> Tried:
        """Return the beginning of a sweep; raise the errors that `create` would raise."""
        from tune.engine.creation import recorded

        self._refuse_code(config)
        there = self._there(config)
        record = recorded(config, self._drivers.cluster) if there is None else there.ledger.record
        return first_suggestions(self._sweeps.storage, config, record)

    def create(self, config: SweepConfig, tags: Mapping[str, str], note: str) -> bool:
        """Make and start a sweep; return False if the identical sweep exists.

        Raises Problem 409 if another sweep has its name.
        """
        from tune.engine.creation import create_sweep

        self._refuse_code(config)
        with self._lock:
            if (view := self._there(config)) is not None:
                with closing(view.ledger):
                    begun = view.ledger.sessions > 0
                # the service was killed after it made the sweep
                if not begun and view.summary["state"] not in _RUNS:
                    self._drivers.start("resume", config.name, [], 0)
                return False
            with closing(
                create_sweep(self._sweeps.storage, config, address=self._drivers.cluster)
            ) as ledger:
                ledger.label(tags, note or None)
            self._drivers.start("resume", config.name, [], 0)
            return True

    def refuse_code(self, model: str) -> None:
        """Raise Problem 403 for a base's method in a file that the operator has not allowed."""
        self._refuse({model}, "model", "base.model")

    def _refuse_code(self, config: SweepConfig) -> None:
        self._refuse(config.own_methods, "model", "base.model")
        self._refuse(config.own_streams, "dataset", "base.dataset")
        self._refuse(config.own_networks, "network", "base.network")

    def _refuse(self, codes: Collection[str], name: str, field: str) -> None:
        """Raise Problem 403 for a user's file that the operator has not allowed."""
        for code in sorted({*codes} - self._allowed):
            names = f": {', '.join(sorted(self._allowed))}" if self._allowed else ""
            raise Problem(
                403,
                f"{name} {code!r} is a file, and this service takes only those that it was "
                f"started with (--allow FILE.py:NAME){names}.",
                field,
            )

    def _there(self, config: SweepConfig) -> View | None:
        """The identical sweep, or None; raises Problem 409 if another sweep has its name."""
        if not (self._sweeps.storage / config.name / "sweep.yaml").is_file():
            return None
        view = self._sweeps.newest(config.name)
        told, asked = view.ledger.config.to_dict(), config.to_dict()
        differing = [f.name for f in fields(SweepConfig) if told[f.name] != asked[f.name]]
        if differing:
            raise Problem(
                409,
                f"a sweep {config.name!r} exists with other values of {', '.join(differing)}; "
                "choose another name, or resume or extend it.",
                "name",
            )
        return view

    def go_on(self, command: str, view: View, limits: Limits) -> None:
        """Start a driver that continues a sweep.

        Raises Problem 409 if the sweep has a driver, or if nothing is left to do.
        """
        name = view.summary["name"]
        with self._lock:
            state = self._sweeps.newest(name).summary["state"]
            if state in _RUNS:
                raise Problem(409, f"{name} is {state}; wait for it, or stop it first.")
            if command == "resume" and state == "finished":
                raise Problem(409, f"{name} is finished; extend it.")
            if command == "extend":
                try:
                    view.ledger.refuse_extension()
                except UserError as error:
                    raise Problem(409, str(error)) from None
            given = limits.model_dump(exclude_none=True, exclude={"space"})
            config = view.ledger.config
            if (given.get("gpus_per_trial", config.gpus_per_trial) > 0) != (
                config.gpus_per_trial > 0
            ):
                raise Problem(
                    409,
                    f"the trials of {name} cannot move between CPU and GPU.",
                    "gpus_per_trial",
                )
            flags = [f"--trials=+{limits.trials}"] if isinstance(limits, Extension) else []
            flags += [
                f"{flag}={_told(field, given[field])}"
                for field, flag in _OF_A_SESSION.items()
                if field in given
            ]
            # raises UserError for values that are not allowed
            replace(config, **{field: given[field] for field in _OF_A_SESSION if field in given})
            if isinstance(limits, Extension) and limits.space is not None:
                self._change_space(name, requested_space(limits.space))
            self._drivers.start(command, name, flags, view.ledger.sessions)

    def _change_space(self, name: str, space: SearchSpace) -> None:
        with closing(Ledger.open(self._sweeps.storage, name)) as ledger, ledger.driving():
            for name in ("model", "network"):
                self._refuse(code_in(space, name), name, "space")
            try:
                ledger.change_space(space)
            except UserError as error:
                raise Problem(409, str(error), "space") from None

    def delete(self, name: str) -> None:
        """Remove a sweep and its MLflow runs.

        Raises Problem 409 if it is running or if another sweep needs it.
        """
        with self._lock:
            state = self._sweeps.newest(name).summary["state"]
            if state in _RUNS:
                raise Problem(409, f"{name} is {state}; stop it first.")
            # In a separate process, because MLflow's import takes memory and seconds.
            if (why := self._drivers.done("delete", name, "--yes")) is not None:
                raise Problem(409, f"{name} cannot be deleted: {why}")

    def confirm(self, view: View, asked: Confirmation) -> str:
        """Make a confirmation if it is missing, start it, and return its name."""
        from tune.engine.class_orders import class_orders
        from tune.engine.extension import extension, refuse_beside
        from tune.engine.retraining import confirmation

        choice, searched = Choice(asked.choose, asked.max_compute), view.summary["name"]
        cluster = self._drivers.cluster
        with self._lock:
            # While a driver starts nobody has the lease, which `confirmation` checks.
            if (state := self._sweeps.newest(searched).summary["state"]) in _RUNS:
                raise Problem(
                    409,
                    f"the sweep {searched!r} is {state}, and may still improve; wait for its end, "
                    f"or stop it: {view.ledger.command('stop')}",
                )
            try:
                with closing(view.ledger):
                    if asked.extend is not None or asked.class_orders is not None:
                        refuse_beside(asked.of_a_new_one, asked.extend, asked.class_orders)
                    if asked.extend is not None:
                        ledger = extension(view.ledger, asked.extend, {}, cluster)
                    elif asked.class_orders is not None:
                        ledger = class_orders(view.ledger, asked.class_orders, {}, cluster)
                    else:
                        ledger = confirmation(
                            view.ledger,
                            asked.seeds,
                            asked.top,
                            choice,
                            asked.baseline,
                            {},
                            cluster,
                            asked.final,
                        )
            except UserError as error:
                raise Problem(409, str(error)) from None
            name, sessions = ledger.config.name, ledger.sessions
            ledger.close()
            self._sweeps.newest(str(ledger.config.confirms))  # it has a new use of test images
            if self._sweeps.newest(name).summary["state"] not in (*_RUNS, "finished"):
                self._drivers.start("resume", name, [], sessions)
        return name


def _told(field: str, value: float) -> str:
    """A number as its flag takes it: lengths of time have no exponent."""
    return f"{value:.3f}" if field.endswith("_seconds") else str(value)
