"""The reference page of fields, made from their descriptions."""

from collections.abc import Iterator, Mapping

from dynamos.config import TrainConfig
from dynamos.fields import Setting, settings
from dynamos.methods import METHODS
from dynamos.methods.hyperparameters import PREFIX
from results.definition.sweep_config import SweepConfig
from search_spaces.parameter import CHOICE_KEYS, RANGE_KEYS, WHEN_KEYS
from search_spaces.space import KEYS


def reference(run: type = TrainConfig, sweep: type = SweepConfig) -> str:
    """Return the page, in Markdown: a table of each class's described fields, by group."""
    return "\n".join(
        [
            "# Fields",
            "",
            "Generated from the code by `make reference`; do not edit.",
            "",
            "## Fields of a run",
            "",
            "They are flags of `dynamos` (`--keep-ratio`), names for `--set` in a sweep "
            "(`--set keep_ratio=0.6`) and keys of a configuration in YAML. Hyperparameters "
            "that only one method has are in the next table; "
            "[own-methods.md](../how-to/own-methods.md) is about your own.",
            "",
            *_table(run),
            "## Hyperparameters of methods",
            "",
            "`--set method.NAME=VALUE`, `method.NAME` in a search space.",
            "",
            *_hyperparameters(),
            "## Fields of a sweep",
            "",
            "They are flags of `dynamos-sweep run`, keys of `sweep.yaml` and keys of a request to "
            "the service. Fields marked (changeable) may be changed when a sweep is resumed.",
            "",
            *_table(sweep),
            "## Keys of a search space",
            "",
            "A search space is a YAML file with `description`, `parameters` and the other keys of "
            "the first table. Each parameter has keys of the second one.",
            "",
            *_keys(KEYS),
            *_keys(RANGE_KEYS | CHOICE_KEYS | WHEN_KEYS),
        ]
    )


def _table(config: type) -> Iterator[str]:
    yield "| field | flag | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for about in settings(config).values():
        flag = about.flag if config is not TrainConfig else about.name.replace("_", "-")
        meaning = about.help + (" (changeable)" if about.session else "")
        yield (
            f"| `{about.name}` | {f'`--{flag}`' if flag else ''} | {_shown(about.default)} | "
            f"{_allowed(about)} | {meaning.replace('|', '&#124;')} |"
        )
    yield ""


def _hyperparameters() -> Iterator[str]:
    yield "| method | hyperparameter | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for model, method in METHODS.items():
        for about in method.hyperparameters:
            yield (
                f"| `{model}` | `{PREFIX}{about.name}` | {_shown(about.default)} | "
                f"{_allowed(about)} | {about.help} |"
            )
    yield ""


def _keys(meanings: Mapping[str, str]) -> Iterator[str]:
    yield "| key | meaning |"
    yield "|---|---|"
    yield from (f"| `{key}` | {meaning} |" for key, meaning in meanings.items())
    yield ""


def _shown(default: object) -> str:
    return (
        ""
        if default is None
        else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    )


def _allowed(about: Setting) -> str:
    if isinstance(about.allowed, tuple):
        return ", ".join(f"`{name}`" for name in about.allowed)
    return "" if about.allowed is None else str(about.allowed)
