"""The kinds of array that a plan is worked out with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
"""Numbers of things in some order: pools, sites, options."""
Flags = npt.NDArray[np.bool_]
