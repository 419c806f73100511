"""Measures of the service for Prometheus."""

from typing import cast

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tune.service.state.sweeps import Sweeps


class Measures:
    """Counts of requests, and gauges of sweeps, which are read on demand."""

    def __init__(self, sweeps: Sweeps) -> None:
        """Start with all counts at zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dynamos_http_requests",
            "requests answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "dynamos_http_request_seconds",
            "time until a request was answered",
            ["route"],
            buckets=(0.005, 0.02, 0.05, 0.1, 0.5, 2, 10),
            registry=self._registry,
        )
        self._registry.register(_OfSweeps(sweeps))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        if not route.endswith("/events"):  # streams last as long as somebody listens
            self._seconds.labels(route).observe(seconds)

    def exposed(self) -> bytes:
        """All measures in Prometheus' format."""
        return generate_latest(self._registry)


class _OfSweeps(Collector):
    def __init__(self, sweeps: Sweeps) -> None:
        self._sweeps = sweeps

    def collect(self) -> list[GaugeMetricFamily]:
        trials = GaugeMetricFamily(
            "dynamos_sweep_trials", "trials of a sweep by state", labels=["sweep", "state"]
        )
        running = GaugeMetricFamily(
            "dynamos_sweep_running", "1 if a sweep has a driver, else 0", labels=["sweep"]
        )
        best = GaugeMetricFamily(
            "dynamos_sweep_best", "best value of the first objective", labels=["sweep"]
        )
        for view in self._sweeps.all():
            told = view.summary
            for state, amount in told["counts"].items():
                trials.add_metric([told["name"], state], cast(int, amount))
            running.add_metric([told["name"]], told["state"] in ("running", "stopping"))
            if told["best"] is not None:
                best.add_metric([told["name"]], told["best"]["value"])
        return [trials, running, best]

    def describe(self) -> list[GaugeMetricFamily]:
        """Return no measures in advance: sweeps are read only on demand."""
        return []
