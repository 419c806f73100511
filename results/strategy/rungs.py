"""Rungs of asynchronous successive halving. Workers import this module, so it needs no Optuna."""

REDUCTION = 2  # halving keeps one of REDUCTION trials at each rung


def rungs(grace: int, end: int) -> list[int]:
    """Return the rungs grace, 2 grace, 4 grace, ... below `end`, in tasks or in epochs.

    Without a grace, 0, there is none.
    """
    found, at = list[int](), grace
    while 0 < at < end:
        found.append(at)
        at *= REDUCTION
    return found
