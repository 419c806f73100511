"""The health checks by name, and their findings about a sweep."""

from results.analysis.health import answer, runs
from results.analysis.health.finding import Check, Finding
from results.sweep import Sweep

# Of the runs themselves; a confirmation has these only, because it chooses nothing.
OF_RUNS: dict[str, Check] = {
    "gates": runs.collapsed_gates,
    "lag": runs.lagging_averages,
    "failures": runs.failures,
}
CHECKS: dict[str, Check] = {
    "gain": answer.little_left,
    "few trials": answer.few_trials,
    "ties": answer.ties_with_the_best,
    "model": answer.unexplained,
    "noise": answer.noisy,
    "range": answer.range_ends,
    "outside": answer.outside,
    "jumps": runs.jumps,
    "collapse": runs.collapse,
} | OF_RUNS


def findings(sweep: Sweep) -> list[tuple[str, Finding]]:
    """Return (name of the check, finding) for each finding about a sweep, in the order of CHECKS.

    Those of a search are about its answer and its runs, those of a confirmation about its runs.
    """
    checks = CHECKS if sweep.config.confirms is None else OF_RUNS
    return [(name, finding) for name, check in checks.items() for finding in check(sweep)]
