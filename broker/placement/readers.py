"""Who in the queue reads what: bringing a dataset to a site serves all of them that may go there."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from broker.jobs.model import Shape
from broker.placement.judge import Judge
from broker.placement.pools import Floats
from broker.placement.view import QueuedClass
from topology.dataset import DatasetId


class Readers:
    """Queued jobs by the dataset that they read, while a plan is made. Counted as they are asked for."""

    def __init__(self, classes: Iterable[QueuedClass], judge: Judge) -> None:
        self._judge = judge
        self._classes = classes
        self._of: dict[DatasetId, list[tuple[Shape, int]]] | None = None
        self._placed: list[tuple[Shape, int]] = []
        self._counts: dict[tuple[DatasetId, int], Floats] = {}

    def at_least(self, dataset: DatasetId, priority: int) -> Floats:
        """By site: how many jobs of at least that priority read a dataset, may run there and are not yet placed. Lower ones do
        not count: they may be placed much later, and who comes before them is never to pay for their sake."""
        if self._of is None:
            self._of = {}
            for queued in self._classes:
                for each in queued.shape.inputs:
                    self._of.setdefault(each, []).append((queued.shape, queued.count))
        found = self._counts.get((dataset, priority))
        if found is None:
            found = self._counts[dataset, priority] = np.zeros(len(self._judge.views))
            for shape, count in (*self._of.get(dataset, ()), *((shape, -count) for shape, count in self._placed)):
                if shape.priority >= priority and dataset in shape.inputs:
                    found[self._judge.options(shape).sites] += count
        return found

    def placed(self, shape: Shape, count: int) -> None:
        """So many jobs of a class wait no more."""
        if not shape.inputs:
            return
        self._placed.append((shape, count))
        for (dataset, priority), counts in self._counts.items():
            if shape.priority >= priority and dataset in shape.inputs:
                counts[self._judge.options(shape).sites] -= count
