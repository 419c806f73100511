"""Names of Optuna 5 that are not public.

If an upgrade changes one, the test of this module fails and names it.
"""

from optuna import Study
from optuna.samplers import NSGAIISampler
from optuna.storages import BaseStorage
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY

# The system attributes that hold a trial's violations of constraints begin with this.
CONSTRAINTS_KEY = _CONSTRAINTS_KEY
# system attribute of a trial: its generation of NSGA-II
GENERATION_KEY = NSGAIISampler._get_generation_key()


def storage_of(study: Study) -> BaseStorage:
    """The storage of a study."""
    return study._storage
