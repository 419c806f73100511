"""The search: Ray drives, Optuna suggests, MLflow mirrors."""

import sys

from dynamos.strangers import refuse_strangers, strangers

_NEEDED = ("search_spaces", "results")
# In `python -m tune.cli` Python puts the working folder first, of which that needs nothing.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and any(strangers(*_NEEDED)):
    del sys.path[0]
refuse_strangers(*_NEEDED)
