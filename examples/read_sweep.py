"""Read a sweep in pandas; needs neither ray nor torch.

python examples/read_sweep.py from-python
"""

import sys

import results

sweep = results.load_sweep(sys.argv[1])
print(sweep.trials[["number", "state", "val_class_il", "lr", "keep_ratio"]])
print(sweep.results.groupby(["number", "task"])["val_class_il"].mean().unstack().round(1))
best = sweep.best()
print(f"the choice is trial {best['number']}, with val_class_il {best['val_class_il']:.2f}")
