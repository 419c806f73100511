"""A landscape on which searches can ask anywhere, from a table of real runs.

The mean of a configuration is predicted from the recorded means over seeds, separately for each
decay. The noise around it is the recorded one: a run takes the deviation of a recorded run from its
configuration's mean, chosen among the configurations whose means are nearest. So good
configurations vary as good ones do, collapses included, and no distribution is fitted. The noise
belongs to configuration and seed: the same run always gives the same value. Runs with the same seed
share what the recorded seed did to all configurations.

The recorded CPU seconds follow the load of the machine, not the configuration. So searches with the
same number of runs cost the same.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.choice import class_il
from results.gaussian_process import coordinates
from search_spaces.space import SearchSpace, read_space

Array = NDArray[np.float64]

NEAR = 10  # configurations whose deviations a run may take
KINDS = ("gp", "trees")
DRAWS = 2**15  # from the space, to find its best configuration
STEPS = 60  # of the refinement of the best one
FOLDS = 10


class Surrogate:
    """Class-il of runs anywhere in the space `averaged`, in percent.

    Attributes:
        core: the space of the table, without the decay.
        settings: values of all fields that no space varies.
        decays: those of the table.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        runs: Sequence[Mapping[str, Any]],
        kind: str = "gp",
        core: SearchSpace | None = None,
    ) -> None:
        """Fit the means of a table (benchmarks/replays/record.py).

        Only configurations that have all seeds of the table count.

        Args:
            settings: as the table has them.
            runs: as the table has them.
            kind: of the model of means, one of KINDS.
            core: the space from which configurations were drawn.
        """
        self.core, self.settings, self.kind = core or read_space("core"), dict(settings), kind
        values = class_il(list(map(dict, runs)))
        fields = {run["configuration"]: {**settings, **run["fields"]} for run in runs}
        seeds = sorted({run["seed"] for run in runs})
        self.decays = sorted({decay for _, decay in values})
        whole = [n for n in sorted(fields) if len(values[n, self.decays[0]]) == len(seeds)]
        self._points = np.array([coordinates(self.core, fields[n]) for n in whole])
        self._runs = {
            decay: np.array([[values[n, decay][seed] for seed in seeds] for n in whole])
            for decay in self.decays
        }
        self._models: dict[float, Any] = {}
        # by decay, the predicted means (N,) and the deviations (N, seeds)
        self._noise: dict[float, tuple[Array, Array]] = {}

    def _model(self, decay: float) -> Any:
        """The model of a decay's means, fitted when it is first needed."""
        if decay not in self._models:
            self._models[decay] = _fitted(self.kind, self._points, self._runs[decay].mean(1))
        return self._models[decay]

    def run(self, config: Mapping[str, Any], seed: int) -> float:
        """Class-il of a run of a configuration of `core` or `averaged`."""
        at, decay = coordinates(self.core, config), float(config["average_decay"])
        mean = self._predicted(at, decay)
        away = self._deviations(mean, decay)
        # The recorded seed depends on the seed alone, so a shared seed is shared.
        row = _hashed(tuple(round(x, 9) for x in at), seed) % len(away)
        column = _hashed(seed) % away.shape[1]
        return float(np.clip(mean + away[row, column], 0, 100))

    def mean(self, config: Mapping[str, Any]) -> float:
        """Expected class-il of a configuration's runs over all seeds."""
        at, decay = coordinates(self.core, config), float(config["average_decay"])
        mean = self._predicted(at, decay)
        return float(np.clip(mean + self._deviations(mean, decay), 0, 100).mean())

    def best(self, space: SearchSpace) -> tuple[dict[str, Any], float]:
        """Return a space's best configuration and its mean.

        Found by random draws and by ever smaller steps from the best of them.
        """
        draws = np.random.default_rng(0)
        varied = "average_decay" in [p.name for p in space.parameters]
        found = []
        for decay in self.decays if varied else [0.0]:
            model = self._model(decay)
            best = draws.random((1, self._points.shape[1]))
            for step in range(STEPS):
                at = draws.random((DRAWS // STEPS, self._points.shape[1]))
                if step > STEPS // 4:
                    at = np.clip(best + draws.normal(0, 2.0 ** (-step / 6), at.shape), 0, 1)
                at = np.concatenate([best, at])
                best = at[[model.predict(at).argmax()]]
            config = self._config(best[0], decay)
            found.append((self.mean(config), decay, config))
        mean, _, config = max(found, key=lambda each: each[:2])
        return config, mean

    def quality(self, decay: float) -> tuple[float, float]:
        """(R squared, rank correlation) of the means of configurations that the fit did not see.

        By cross-validation with FOLDS parts, a Gaussian process with the kernel fitted to all.
        """
        from scipy.stats import spearmanr

        means, predicted = self._runs[decay].mean(1), np.empty(len(self._points))
        parts = np.random.default_rng(0).permutation(len(means)) % FOLDS
        for part in range(FOLDS):
            away = parts == part
            model = _fitted(self.kind, self._points[~away], means[~away], self._model(decay))
            predicted[away] = model.predict(self._points[away])
        explained = 1 - np.mean((means - predicted) ** 2) / means.var()
        return float(explained), float(spearmanr(means, predicted).statistic)

    def _predicted(self, at: Sequence[float], decay: float) -> float:
        return float(self._model(decay).predict(np.array([at]))[0])

    def _deviations(self, mean: float, decay: float) -> Array:
        """(NEAR, seeds): deviations of the configurations whose means are nearest to a mean."""
        if decay not in self._noise:
            runs = self._runs[decay]
            seeds = runs.shape[1]
            away = (runs - runs.mean(1, keepdims=True)) * np.sqrt(seeds / max(seeds - 1, 1))
            self._noise[decay] = self._model(decay).predict(self._points), away
        means, away = self._noise[decay]
        return away[np.argsort(np.abs(means - mean), kind="stable")[:NEAR]]

    def _config(self, at: Array, decay: float) -> dict[str, Any]:
        """Return the configuration with these coordinates in the core space; all are ranges."""
        config: dict[str, Any] = {}
        for p, x in zip(self.core.parameters, at.tolist(), strict=True):
            assert p.low is not None and p.high is not None
            ends = np.array([p.stored(p.low), p.stored(p.high)])
            value = np.interp(x, [0, 1], np.log(ends) if p.log else ends)
            value = float(np.exp(value) if p.log else value)
            config[p.name] = float(np.clip(p.stored(value), p.low, p.high))
        return config | {"average_decay": decay}


def _fitted(kind: str, x: Array, y: Array, like: Any = None) -> Any:
    """Return the model of values (N,) at points (N, D), with the kernel of another if given."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    if kind == "trees":
        return ExtraTreesRegressor(300, random_state=0).fit(x, y)
    if like is not None:
        model = GaussianProcessRegressor(like.kernel_, optimizer=None, normalize_y=True)
        return model.fit(x, y)
    size = x.shape[1]
    kernel = ConstantKernel(1.0, (0.01, 100.0)) * Matern(
        np.ones(size), [(0.05, 20.0)] * size, nu=2.5
    ) + WhiteKernel(0.1, (1e-4, 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is no fault
        return GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(x, y)


def _hashed(*what: object) -> int:
    """A number that looks random and is always the same for the same arguments."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=8).digest())
