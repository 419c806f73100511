"""Normal distributions on a range: which values of a field are likely to be good."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """A normal distribution, cut off at both ends of a range and normalised to it.

    It maps the range to places from 0 to 1, so that values drawn from it lie at uniform places
    (the probability integral transform).
    """

    mean: float  # inside the range
    sd: float
    low: float
    high: float

    def place(self, values: Array) -> Array:
        """Return the cumulative probabilities of values."""
        from scipy.special import ndtr  # only spaces with a prior wait for this import

        low, high, at = (ndtr((x - self.mean) / self.sd) for x in (self.low, self.high, values))
        return np.asarray(np.clip((at - low) / (high - low), 0.0, 1.0))

    def value(self, places: Array) -> Array:
        """Return the values at cumulative probabilities; 0 and 1 are the ends of the range."""
        from scipy.special import ndtr, ndtri

        low, high = (ndtr((end - self.mean) / self.sd) for end in (self.low, self.high))
        found = self.mean + self.sd * ndtri(low + np.asarray(places) * (high - low))
        return np.asarray(np.clip(found, self.low, self.high))
