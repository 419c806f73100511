"""Options of a request for a sweep, for forms."""

from dataclasses import MISSING
from functools import cache
from typing import Any

from dynamos.config import FIELDS, default, preset_sizes
from dynamos.fields import settings
from dynamos.methods import METHODS
from dynamos.streams.names import DATASETS, ROTATING
from results.definition.defaults import DEFAULTS, FOLLOWS, base_config
from results.definition.objectives import OBJECTIVES
from results.definition.protocols import PROTOCOLS
from results.definition.sweep_config import SweepConfig
from results.strategy.pruners import PRUNERS
from results.strategy.samplers import SAMPLERS
from search_spaces.parameter import NOT_VARIED
from search_spaces.space import named_spaces, read_space
from tune.service.state.views import parameter
from tune.service.wire.answers import Field, Options, SweepSetting
from tune.service.wire.bodies import OF_THE_SERVICE, SweepRequest


@cache
def options() -> Options:
    """Streams, methods, spaces, fields, presets, samplers, pruners, protocols and metrics."""
    spaces = {name: read_space(name) for name in named_spaces()}
    presets: dict[str, dict[str, Any]] = {}
    sizes = {name: preset_sizes(name) or [default("buffer_size")] for name in DATASETS}
    for stream, size in ((name, size) for name in DATASETS for size in sizes[name]):
        base = base_config(
            stream,
            {"buffer_size": size},
            DEFAULTS["protocol"],
            DEFAULTS["cpus_per_trial"],
            DEFAULTS["gpus_per_trial"],
            None,
        ).to_dict()
        presets.setdefault(stream, {})[str(size)] = {
            name: value for name, value in base.items() if name not in (*OF_THE_SERVICE, *FOLLOWS)
        }
    return {
        "streams": {s: {"buffer_sizes": sizes[s], "rotating": s in ROTATING} for s in DATASETS},
        "models": list(METHODS),
        "spaces": {
            name: {
                "description": space.description,
                "parameters": [parameter(p) for p in space.parameters],
                "fixed": dict(space.fixed),
                "forbid": [*map(str, space.forbid)],
            }
            for name, space in spaces.items()
        },
        "fields": {name: _field(name) for name in FIELDS if name not in OF_THE_SERVICE},
        "presets": presets,
        "samplers": list(SAMPLERS),
        "pruners": list(PRUNERS),
        "protocols": PROTOCOLS,
        "metrics": OBJECTIVES,
        "settings": settings_of(SweepConfig),
        "defaults": {
            name: value for name, value in DEFAULTS.items() if name in SweepRequest.model_fields
        }
        | {"dataset": DEFAULTS["dataset"]},
    }


def settings_of(config: type) -> dict[str, SweepSetting]:
    """The fields of a sweep that a form asks for, by name."""
    return {
        name: {
            "type": about.kind.__name__,
            "label": about.label,
            "help": about.help,
            "group": about.group,
            "default": about.default,
            "choices": list(about.allowed) if isinstance(about.allowed, tuple) else None,
        }
        for name, about in settings(config).items()
        if about.label
    }


def _field(name: str) -> Field:
    about = FIELDS[name]
    assert about.default is not MISSING
    return {
        "type": about.kind.__name__,
        "optional": about.optional,
        "help": about.help,
        "group": about.group,
        "default": about.default,
        "searchable": name not in NOT_VARIED,
        "follows": FOLLOWS.get(name),
        "choices": list(about.allowed) if isinstance(about.allowed, tuple) else None,
    }
