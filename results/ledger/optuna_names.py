"""Names of Optuna 5 that are not public.

If an upgrade changes one, the test of this module fails and names it.
"""

from functools import cache
from typing import Any

from optuna import Study
from optuna.samplers import NSGAIISampler
from optuna.samplers._tpe.sampler import _RELATIVE_PARAMS_KEY
from optuna.storages import BaseStorage
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY

# The system attributes that hold a trial's violations of constraints begin with this.
CONSTRAINTS_KEY = _CONSTRAINTS_KEY
# system attribute of a trial: its generation of NSGA-II
GENERATION_KEY = NSGAIISampler._get_generation_key()
# System attributes of a running trial begin with this: what TPE drew for it, which may differ from
# the trial's parameters.
DRAWN_KEY = _RELATIVE_PARAMS_KEY

# System attributes that hold the state of CMA-ES begin with this.
CMA_KEY = "cma:"


@cache
def tables() -> dict[str, Any]:
    """The tables of a study in a database, as SQLAlchemy's models."""
    from optuna.storages._rdb import models

    return {
        "studies": models.StudyModel,
        "study_attributes": models.StudyUserAttributeModel,
        "trials": models.TrialModel,
        "params": models.TrialParamModel,
        "user_attributes": models.TrialUserAttributeModel,
        "system_attributes": models.TrialSystemAttributeModel,
        "values": models.TrialValueModel,
        "intermediate": models.TrialIntermediateValueModel,
    }


def storage_of(study: Study) -> BaseStorage:
    """The storage of a study."""
    return study._storage
