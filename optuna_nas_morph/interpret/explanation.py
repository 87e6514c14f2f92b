"""What is said of a study and of a trial, as data and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from optuna_nas_morph.ir import LabelledGraph

_Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, header, rows

N_SHOWN = 10
"""Rows of each part of a printed table."""


@dataclass(frozen=True)
class Effect:
    """A difference of the objective with its credible interval, in the user's units.

    Attributes:
        mean:
            Posterior mean; positive where the objective is larger.
        low, high:
            Ends of the interval.
        is_better:
            Whether the mean is an improvement in the direction of the study.
    """

    mean: float
    low: float
    high: float
    is_better: bool

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Motif:
    """A neighbourhood that architectures of a study contain, and its effect.

    Attributes:
        level:
            How many steps from its root it reaches.
        description:
            In words, such as ``conv3x3 <- [input] -> [relu]``.
        graph:
            An example; node 0 is the root.
        effect:
            What architectures of the reference pool with it are better by, on average, than those without.
        trials:
            Numbers of the trials whose architecture contains it.
    """

    level: int
    description: str
    graph: LabelledGraph
    effect: Effect
    trials: tuple[int, ...]

    @property
    def support(self) -> int:
        """In how many trials it is."""
        return len(self.trials)


@dataclass(frozen=True)
class HyperparameterEffect:
    """What a hyperparameter does.

    Attributes:
        name:
            Of the parameter.
        values:
            Which values are compared with all others: a choice, or the half above the median.
        effect:
            What trials with them are better by, on average.
    """

    name: str
    values: str
    effect: Effect


@dataclass(frozen=True)
class Explanation:
    """What has helped in a study.

    Attributes:
        motifs:
            The most helpful first, in the direction of the study.
        hyperparameters:
            Alike.
        level:
            Probability of the intervals.
        start:
            The value that effects start from, in the user's units: the median of the trials.
        n_trials, n_pool:
            Trials that were learned from, and architectures that effects are averaged over.
    """

    motifs: tuple[Motif, ...]
    hyperparameters: tuple[HyperparameterEffect, ...]
    level: float
    start: float
    n_trials: int
    n_pool: int

    def __str__(self) -> str:
        return "\n\n".join(
            "\n".join([title, *_aligned([header, *rows])]) for title, header, rows in self._tables() if rows
        )

    def _repr_html_(self) -> str:
        return "".join(_html(title, header, rows) for title, header, rows in self._tables() if rows)

    def _tables(self) -> list[_Table]:
        interval = f"{self.level:.0%} interval"
        clear = [m for m in self.motifs if m.effect.is_clear]
        good = [m for m in clear if m.effect.is_better]
        bad = [m for m in reversed(clear) if not m.effect.is_better]
        header = ("effect", interval, "trials", "motif")
        what = (
            f"effect on a value of {self.start:.4g}, the median of {self.n_trials} trials; averages over "
            f"{self.n_pool} architectures"
        )

        def rows(motifs: Sequence[Motif]) -> list[tuple[str, ...]]:
            return [(*_effect(m.effect), str(m.support), m.description) for m in motifs[:N_SHOWN]]

        unclear = len(self.motifs) - len(clear)
        of_hyperparameters = [(*_effect(h.effect), h.name, h.values) for h in self.hyperparameters]
        return [
            (f"Motifs that help ({len(good)}; {what})", header, rows(good)),
            (f"Motifs that harm ({len(bad)}; of {unclear} more it is not clear)", header, rows(bad)),
            ("Hyperparameters", ("effect", interval, "name", "values"), of_hyperparameters),
        ]


@dataclass(frozen=True)
class Contribution:
    """A part of a prediction, in the user's units.

    Attributes:
        part:
            What of the trial it is due to.
        value:
            What it adds.
    """

    part: str
    value: float


@dataclass(frozen=True)
class NextStep:
    """A morphism, or another choice, and what it is predicted to bring.

    Attributes:
        step:
            In words.
        effect:
            The difference to the prediction of the trial.
    """

    step: str
    effect: Effect


@dataclass(frozen=True)
class TrialExplanation:
    """Why a trial is predicted as it is.

    Attributes:
        number:
            Of the trial.
        value:
            What it came to; :obj:`None` if it has not.
        prediction:
            Posterior mean at the reference training.
        low, high:
            Ends of its credible interval.
        baseline:
            The prediction for an architecture of which nothing is known.
        contributions:
            The largest first; with the baseline they sum to the prediction.
        next_steps:
            What to change, the most promising first.
        level:
            Probability of the interval.
    """

    number: int
    value: float | None
    prediction: float
    low: float
    high: float
    baseline: float
    contributions: tuple[Contribution, ...]
    next_steps: tuple[NextStep, ...]
    level: float

    def __str__(self) -> str:
        return "\n\n".join("\n".join([title, *_aligned([header, *rows])]) for title, header, rows in self._tables())

    def _repr_html_(self) -> str:
        return "".join(_html(title, header, rows) for title, header, rows in self._tables())

    def _tables(self) -> list[_Table]:
        came = "" if self.value is None else f", came to {self.value:.4g}"
        interval = f"{self.level:.0%} interval"
        title = f"Trial {self.number}: predicted {self.prediction:.4g} [{self.low:.4g}, {self.high:.4g}]{came}"
        rows = [(f"{c.value:+.3g}", c.part) for c in self.contributions[:N_SHOWN]]
        rest = sum(c.value for c in self.contributions[N_SHOWN:])
        if len(self.contributions) > N_SHOWN:
            rows.append((f"{rest:+.3g}", f"{len(self.contributions) - N_SHOWN} smaller parts"))
        steps = [(*_effect(s.effect), s.step) for s in self.next_steps[:N_SHOWN]]
        return [
            (title, ("", "part"), [(f"{self.baseline:.4g}", "any architecture"), *rows]),
            ("What to change next", ("effect", interval, "step"), steps),
        ]


def _effect(effect: Effect) -> tuple[str, str]:
    return f"{effect.mean:+.3g}", f"[{effect.low:+.3g}, {effect.high:+.3g}]"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they must be, the last one to the left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join([*(c.rjust(w) for c, w in zip(line[:-1], widths, strict=False)), line[-1]]) for line in lines]


def _html(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
