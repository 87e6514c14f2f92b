"""Proposals that are computed while a trial is training, as in Auto-Keras (Jin et al., 2019, Section 3.4).

The history is read before the training begins and the rest is done by a thread, which holds no connection to a storage.
So a proposal that was prepared lacks the results that came in the meantime, that of the trial itself at least, which it
takes for one that is running; how many results it may lack is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution

if TYPE_CHECKING:
    from optuna_nas_morph.proposal import Proposal, Task


@dataclass(frozen=True)
class _Prepared:
    task: Task
    n_results: int
    future: Future[Proposal]


class Ahead:
    """At most one prepared proposal per study.

    Args:
        max_staleness:
            How many results a prepared proposal may lack. With 0 nothing is prepared.
    """

    def __init__(self, max_staleness: int) -> None:
        self.max_staleness = max_staleness
        self._executor: ThreadPoolExecutor | None = None
        self._prepared: dict[int, _Prepared] = {}

    def prepare(self, study_id: int, task: Task, n_results: int, compute: Callable[[], Proposal]) -> None:
        """Begin to compute the next proposal of a study.

        Args:
            study_id:
                Which study.
            task:
                What will be asked for, as far as one can tell.
            n_results:
                How many results it is based on.
            compute:
                Makes the proposal, in another thread.
        """
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "nasmorph-ahead")
        self._prepared[study_id] = _Prepared(task, n_results, self._executor.submit(compute))

    def take(self, study_id: int, task: Task, n_results: int) -> Proposal | None:
        """The prepared proposal, once: waits for it where it is not ready.

        Returns:
            :obj:`None` if there is none, if it lacks too many results, if something else is asked for by now, or if it
            could not be made: the error then comes from making it again.
        """
        prepared = self._prepared.pop(study_id, None)
        if prepared is None or n_results - prepared.n_results > self.max_staleness or not _is_same(prepared.task, task):
            return None
        return None if prepared.future.exception() is not None else prepared.future.result()


def _is_same(prepared: Task, asked: Task) -> bool:
    spaces = [None if task.space is None else task.space.digest for task in (prepared, asked)]
    known: list[Mapping[str, BaseDistribution]] = [task.cube.distributions for task in (prepared, asked)]
    return spaces[0] == spaces[1] and known[0] == known[1] and not prepared.fixed and not asked.fixed
