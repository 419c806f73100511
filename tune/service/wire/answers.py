"""Answers of the service: the types of its JSON, for the code and for the API's description."""

import datetime as dt
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from results.analysis.comparison import BUDGETS
from results.ledger.attributes import StateName

TrialState = Literal["WAITING", "RUNNING", "INTERRUPTED", "COMPLETE", "PRUNED", "FAIL"]
Scalar = bool | int | float | str | None


@with_config(ConfigDict(extra="forbid"))  # no answer has a field that is not described
class _Answer(TypedDict):
    pass


class Counts(_Answer):
    """Trials by state."""

    waiting: int
    running: int
    interrupted: int
    complete: int
    pruned: int
    fail: int


class BestTrial(_Answer):
    """A trial: its first objective's mean over seeds, its deviation, its configuration."""

    number: int
    value: float
    spread: float | None
    config: dict[str, Scalar]


class ChosenTrial(BestTrial):
    """The trial that a sweep chooses, and what a model of the trials expects of it.

    Without a useful model, and while trials run, the last three are null.
    """

    expected: float | None
    sd: float | None
    p_best: float | None  # probability of being the best


class Summary(_Answer):
    """A sweep in a list."""

    revision: int  # rises with every change, as long as the service runs
    name: str
    stream: str
    model: str
    buffer_size: int
    space: str
    protocol: str
    publishable: bool
    sampler: str
    pruner: str
    seeds: int
    objectives: list[str]
    constraints: list[str]
    state: StateName
    driver: str | None
    budget: int
    counts: Counts
    best: BestTrial | None  # with the best value: the luckiest
    confirms: str | None
    tags: dict[str, str]
    note: str
    verdict: str | None  # of the latest confirmation that has an answer
    error: str | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None


class SearchedField(_Answer):
    """A searched field: its range, or its choices."""

    name: str
    low: float | None
    high: float | None
    log: bool
    choices: list[Scalar] | None
    step: float | None
    mean: float | None
    sd: float | None
    weights: list[float] | None
    when: dict[str, list[Scalar]] | None


class Outcome(_Answer):
    """Outcome of a confirmation, with the numbers of the trials that were chosen and tested."""

    at: str
    confirmation: str
    verdict: str
    finding: str
    trial: int | None
    tested: list[int]
    metrics: dict[str, float]


class ConfirmationLook(_Answer):
    """A use of test images by a confirmation, with its outcome once it has an answer."""

    at: str
    configurations: int
    seeds: list[int]
    outcome: NotRequired[Outcome]
    extends: NotRequired[str]  # the confirmation to which it adds seeds
    class_orders_of: NotRequired[str]  # the confirmation whose configurations it trains
    look: NotRequired[int]  # number of the look at that confirmation, from 1


class Links(_Answer):
    """Links to other pages about a sweep."""

    mlflow: str | None
    ray: str | None


class HealthFinding(_Answer):
    """A finding of a health check: a trait that weakens the answer, and what to do about it."""

    check: str
    text: str
    next_step: str


class Findings(_Answer):
    """Findings of a sweep or a confirmation in words, and the trials of the Pareto set."""

    answer: str
    chosen: ChosenTrial | None
    expected: str
    ties: str
    ranking: str
    health: list[HealthFinding]
    pareto: list[int]


class Cleaned(_Answer):
    """Checkpoints that `clean` removed, or would remove."""

    trials: list[int]
    files: int
    bytes: int
    text: str


class WholeSweep(Summary, Findings):
    """A sweep without its trials."""

    parameters: list[SearchedField]
    searched: str  # the space, in words
    metrics: dict[str, str]
    cpu_seconds: float
    gpu_seconds: float
    config: dict[str, Any]  # as sweep.yaml has it
    record: dict[str, Any]  # of the machine and code at its start
    looks: dict[str, ConfirmationLook]
    notes: list[str]  # on unexpected traits of the search
    links: Links


class SweepPage(_Answer):
    """Sweeps from an offset on, and their total number."""

    total: int
    sweeps: list[Summary]


class TrialRow(_Answer):
    """A trial in a table; metrics are means over seeds after the last task that all have."""

    number: int
    state: TrialState
    source: str
    seed: int | None  # the first of its training seeds; None before it starts
    attempt: int
    tasks_done: int
    n_tasks: int  # of the stream; 0 before the first result
    curve: list[float | None]  # the first objective after each task
    held: bool
    seconds: float | None
    cpu_seconds: float
    gpu_seconds: float
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    reason: str | None
    feasible: bool | None
    value: float | None
    metrics: dict[str, float | None]
    spread: float | None
    imported: bool
    config: dict[str, Scalar]


class TrialPage(_Answer):
    """Trials from an offset on, and their total number."""

    total: int
    trials: list[TrialRow]


class Trial(TrialRow):
    """A trial with all its results."""

    by_task: dict[str, list[float | None]]
    results: dict[str, list[dict[str, Any]]]  # by seed
    epoch_readings: dict[str, list[dict[str, float]]]  # by seed; within tasks, for pruning
    warnings: list[str]
    log: str
    traceback: str | None
    command: str | None


class Suggestion(_Answer):
    """A trial that a sweep would start with."""

    number: int
    source: str
    config: dict[str, Scalar]


class DryRun(_Answer):
    """A sweep that is not started, and its first suggestions."""

    config: dict[str, Any]
    trials: int
    suggestions: list[Suggestion]
    notes: list[str]  # on unexpected traits of the search


class Best(_Answer):
    """The chosen trial, and the commands that train its configuration."""

    trial: TrialRow
    config: dict[str, Scalar]
    commands: dict[str, str]
    note: str  # on the images that the commands use
    provenance: dict[str, Any]


class ParetoSet(_Answer):
    """The trials that no other one equals or beats in every objective and beats in one."""

    objectives: list[str]
    trials: list[TrialRow]


class Share(_Answer):
    """A field's share of a metric's variance in all trials, and its deviation."""

    name: str
    share: float
    spread: float


class Importance(_Answer):
    """The shares of all fields, the largest first; [] if none can be computed."""

    metric: str
    trials: int
    shares: list[Share]


class Comparison(_Answer):
    """Sweeps side by side: rows of (what, a cell per sweep), and points of (spent, best so far)."""

    names: list[str]
    settings: list[tuple[str, list[str]]]
    found: list[tuple[str, list[str]]]
    shifted: list[tuple[str, list[str]]]
    sentences: list[str]
    curves: dict[Literal[*BUDGETS], dict[str, list[tuple[float, float]]]]  # type: ignore[valid-type]


class StreamOption(_Answer):
    """A stream to learn."""

    buffer_sizes: list[int]
    rotating: bool


class NamedSpace(_Answer):
    """A search space that comes with the package."""

    description: str
    parameters: list[SearchedField]
    fixed: dict[str, Scalar]
    forbid: list[str]


class Field(_Answer):
    """A field of a training's configuration."""

    type: str
    optional: bool
    help: str
    group: str
    default: Scalar
    searchable: bool
    follows: str | None  # the setting of the sweep that decides it by default
    choices: list[Scalar] | None


class SweepSetting(TypedDict):
    """A field of a sweep, as a form asks for it."""

    type: str
    label: str
    help: str
    group: str
    default: Scalar
    choices: list[str] | None


class Options(_Answer):
    """Options of a request for a sweep."""

    streams: dict[str, StreamOption]
    models: list[str]
    spaces: dict[str, NamedSpace]
    fields: dict[str, Field]
    presets: dict[str, dict[str, dict[str, Scalar]]]  # by stream and buffer size
    samplers: list[str]
    pruners: list[str]
    protocols: dict[str, str]
    metrics: dict[str, str]
    settings: dict[str, SweepSetting]  # of the sweep itself, in the order of a form
    defaults: dict[str, Any]
