"""Names of Optuna 5 that are not public.

An upgrade that changes one fails the test of this module, by name.
"""

from optuna import Study
from optuna.samplers import NSGAIISampler
from optuna.storages import BaseStorage
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY

# system attributes of a trial begin with it: its violations of constraints
CONSTRAINTS_KEY = _CONSTRAINTS_KEY
# system attribute of a trial: its generation of NSGA-II
GENERATION_KEY = NSGAIISampler._get_generation_key()


def storage_of(study: Study) -> BaseStorage:
    """The storage of a study."""
    return study._storage
