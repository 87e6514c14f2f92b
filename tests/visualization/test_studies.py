"""Pictures of studies: what they show, worked out by hand, and that they show something for every study."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import optuna
import pytest
from optuna.trial import TrialState

import optuna_nas_morph.visualization as vis
from optuna_nas_morph.ir import TensorSpec
from optuna_nas_morph.morphisms import Widen
from optuna_nas_morph.visualization import theme
from optuna_nas_morph.visualization.family_tree import LABEL, SHIFT, get_lineage_info
from optuna_nas_morph.visualization.growth import _get_growth_info
from optuna_nas_morph.visualization.inheritance import _get_inheritance_info
from optuna_nas_morph.visualization.pareto import _front, _get_pareto_info
from optuna_nas_morph.visualization.states import State, ranks_of
from optuna_nas_morph.visualization.trials import OBJECTIVE_VALUE
from optuna_nas_morph.visualization.words import count_text, morphisms_text, shape_change_text
from tests.studies import MLP
from tests.visualization.studies import grown_study, plain_trial, study_of, trial

WIDE = Widen(2.0).apply(MLP, ("a",))
WIDER = Widen(2.0).apply(WIDE, ("a",))
STEPS = ["widen:2 at a", "widen:2 at a"]
N_SEED, N_WIDE = MLP.n_parameters, WIDE.n_parameters

PLOTS: list[Callable[..., Any]] = [vis.plot_growth, vis.plot_inheritance, vis.plot_lineage]


def family() -> optuna.Study:
    """0 -> 1 -> 3 -> 5, 0 -> 2, 1 -> 4; 6 has no architecture."""
    return study_of(
        [
            trial([0.5], inherited=0.0, effective=3.0),
            trial([0.6], architecture=WIDE, steps=STEPS[:1], parent=0, donor=0, inherited=3.0, effective=6.0),
            trial(None, TrialState.FAIL, architecture=WIDE, steps=STEPS[:1], parent=0, donor=0, inherited=3.0),
            trial(
                [0.8],
                architecture=WIDER,
                steps=STEPS,
                parent=1,
                n_inherited_steps=1,
                donor=1,
                inherited=6.0,
                effective=9.0,
            ),
            trial(
                None,
                TrialState.PRUNED,
                [0.3, 0.4],
                architecture=WIDER,
                steps=STEPS,
                parent=1,
                n_inherited_steps=1,
                inherited=0.0,
                effective=3.0,
            ),
            trial(
                [0.7],
                architecture=WIDER,
                steps=STEPS,
                parent=3,
                n_inherited_steps=2,
                donor=3,
                inherited=9.0,
                effective=12.0,
                constraints={"memory": 1.0},
            ),
            plain_trial([0.9]),
        ]
    )


# What is shown.


def test_lineage_by_hand() -> None:
    info = get_lineage_info(family(), None, OBJECTIVE_VALUE)
    assert [node.number for node in info.nodes] == [0, 1, 2, 3, 4, 5]
    assert [node.parent for node in info.nodes] == [None, 0, 0, 1, 1, 3]
    assert [node.state for node in info.nodes] == [
        State.COMPLETE, State.COMPLETE, State.FAILED, State.COMPLETE, State.PRUNED, State.INFEASIBLE,
    ]  # fmt: skip
    # 0.4 (pruned), 0.5, 0.6, 0.7 (infeasible), 0.8
    assert [node.share for node in info.nodes] == [0.25, 0.5, None, 1.0, 0.0, 0.75]
    assert info.best == 3
    assert [node.number for node in info.nodes if node.of_best] == [0, 1, 3]
    assert [node.morphisms for node in info.nodes] == ["", "widen ×2", "widen ×2", "widen ×2", "widen ×2", "trained on"]
    assert [node.value for node in info.nodes] == ["0.5", "0.6", "", "0.8", "0.4", "0.7"]
    assert info.caption == "6 trials: 3 complete, 1 infeasible, 1 pruned, 1 failed; best 0.8 (trial 3)"
    assert [label for _, label in info.ranks.ticks] == ["0.4", "0.5", "0.6", "0.7", "0.8"]
    xs = [node.at[0] for node in info.nodes]
    assert xs[0] < xs[1] == xs[2] < xs[3] == xs[4] < xs[5]
    assert "violates memory" in info.nodes[5].details


def test_lineage_when_less_is_better() -> None:
    study = study_of(family().get_trials(), ["minimize"])
    info = get_lineage_info(study, None, OBJECTIVE_VALUE)
    assert info.best == 0
    assert [node.share for node in info.nodes] == [0.75, 0.5, None, 0.0, 1.0, 0.25]
    assert [label for _, label in info.ranks.ticks] == ["0.8", "0.7", "0.6", "0.5", "0.4"]


def test_lineage_with_a_target_does_not_guess_what_is_better() -> None:
    info = get_lineage_info(family(), lambda t: -t.number, "minus number")
    assert info.best is None and not any(node.of_best for node in info.nodes)
    assert [node.share for node in info.nodes] == [1.0, pytest.approx(2 / 3), None, pytest.approx(1 / 3), None, 0.0]
    assert info.nodes[3].details[-1] == "minus number -3"


@pytest.mark.parametrize("n_trials", [5, 50, 500])
def test_labels_of_a_tree_do_not_overlap(n_trials: int) -> None:
    info = get_lineage_info(grown_study(n_trials), None, OBJECTIVE_VALUE)
    labels: dict[float, list[float]] = {}
    for node in info.nodes:
        for text, shift in ((node.morphisms, -SHIFT), (node.value, SHIFT)):
            if text:
                labels.setdefault(node.at[0], []).append(node.at[1] + shift)
    assert labels
    for ys in labels.values():
        ys.sort()
        assert all(b - a >= LABEL - 1e-6 for a, b in pairwise(ys))
    assert len({node.at for node in info.nodes}) == len(info.nodes)
    assert info.height <= 2000 and info.width <= 2200


def test_growth_by_hand() -> None:
    info = _get_growth_info(family(), None, OBJECTIVE_VALUE)
    assert [p.number for p in info.points] == [0, 1, 2, 3, 4, 5]
    assert [p.parameters for p in info.points[:3]] == [N_SEED, N_WIDE, N_WIDE]
    assert [p.flops for p in info.points[:2]] == [MLP.flops, WIDE.flops]
    assert [p.value for p in info.points] == [0.5, 0.6, None, 0.8, 0.4, 0.7]
    assert [p.number for p in info.incumbents] == [0, 1, 3]  # 5 violates a constraint
    lower = _get_growth_info(study_of(family().get_trials(), ["minimize"]), None, OBJECTIVE_VALUE)
    assert [p.number for p in lower.incumbents] == [0]
    assert not _get_growth_info(family(), lambda t: t.value, "v").incumbents


def test_inheritance_by_hand() -> None:
    info = _get_inheritance_info(family(), None, OBJECTIVE_VALUE)
    assert [t.number for t in info.trainings] == [0, 1, 3, 4, 5]  # nobody knows how long 2 trained before it failed
    assert [t.donor for t in info.trainings] == [None, 0, 1, None, 3]
    assert [t.trained for t in info.trainings] == [3, 3, 3, 2, 3]  # 4 was pruned after two reports
    assert info.trained == (3, 6, 9, 11, 14)
    assert info.from_scratch == (3, 9, 18, 20, 32)
    names = [trace.name for trace in vis.plot_inheritance(family()).data]
    assert "from scratch, pruned" in names and "inherited, infeasible" in names


def test_pareto_by_hand() -> None:
    info = _get_pareto_info(family())
    assert [(p.number, p.at) for p in info.points] == [
        (0, (N_SEED, 0.5)), (1, (N_WIDE, 0.6)), (3, (WIDER.n_parameters, 0.8)), (5, (WIDER.n_parameters, 0.7)),
    ]  # fmt: skip
    assert [p.number for p in info.points if p.is_on_front] == [0, 1, 3]
    assert [p.is_feasible for p in info.points] == [True, True, True, False]
    assert info.names == ("Parameters", OBJECTIVE_VALUE) and info.minimise == (True, False)
    lower = _get_pareto_info(study_of(family().get_trials(), ["minimize"]), "flops")
    assert [p.number for p in lower.points if p.is_on_front] == [0]
    assert lower.points[0].at == (MLP.flops, 0.5)
    chosen = _get_pareto_info(family(), targets=lambda t: (t.number, t.value), directions=["maximize", "maximize"])
    assert [p.number for p in chosen.points if p.is_on_front] == [6]


def test_pareto_of_two_objectives_is_that_of_optuna() -> None:
    study = grown_study(60, 3, ["minimize", "maximize"])
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["error", "speed"])
    info = _get_pareto_info(study)
    assert {p.number for p in info.points if p.is_on_front} == {t.number for t in study.best_trials}
    assert info.names == ("error", "speed")


def test_front_keeps_equals() -> None:
    assert _front([(1, 2), (1, 2), (2, 1), None, (2, 2), (1, 3)]) == {0, 1, 2}


def test_ranks() -> None:
    assert ranks_of([3.0, None, 1.0, 1.0], minimise=False).shares == (1.0, None, 0.25, 0.25)
    assert ranks_of([2.0, 2.0], minimise=True).shares == (0.5, 0.5)
    assert ranks_of([None], minimise=True) == ranks_of([None], minimise=False)


def test_words() -> None:
    assert [count_text(n) for n in (0, 835, 999, 1000, 77_850, 999_990, 1.07e9)] == [
        "0", "835", "999", "1.00 k", "77.8 k", "1.00 M", "1.07 G",
    ]  # fmt: skip
    steps = ["widen:1.5 at a", "widen:1.5 at b", "insert_residual_block:3 at c", "some_new_thing:2 at d"]
    assert morphisms_text(steps) == "2× widen ×1.5, block, some new thing"
    assert morphisms_text(["widen_hidden:1.5 at embed", "insert_transformer_block:4 at add_1"]) == (
        "widen hidden ×1.5, transformer block"
    )
    assert shape_change_text(TensorSpec((3, 8, 8)), TensorSpec((6, 8, 8))) == "3→6×8×8"
    assert shape_change_text(TensorSpec((3, 8, 8)), TensorSpec((6,))) == "3×8×8 → 6"


# That there is something to show.


@pytest.mark.parametrize("n_trials", [0, 1, 5, 50])
@pytest.mark.parametrize("directions", [["maximize"], ["minimize"], ["maximize", "minimize"]], ids=str)
def test_every_plot_of_every_study(n_trials: int, directions: list[str], caplog: pytest.LogCaptureFixture) -> None:
    study = grown_study(n_trials, directions=directions)
    arguments: dict[str, Any] = {} if len(directions) == 1 else {"target": lambda t: t.values[0], "target_name": "x"}
    figures = [plot(study, **arguments) for plot in PLOTS] + [vis.plot_pareto(study)]
    for figure in figures:
        figure.to_json()
        assert bool(figure.data) == bool(n_trials)
        assert figure.layout.paper_bgcolor is None and figure.layout.plot_bgcolor is None
        assert figure.layout.font.color is None and figure.layout.title.font.color is None
    assert (len(caplog.records) > 0) == (not n_trials)
    svg = ET.fromstring(vis.lineage_to_svg(study, **arguments))
    with_steps = [t for t in study.get_trials() if "nasmorph:steps" in t.user_attrs]
    titles = [e.text or "" for e in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert [title.split(",")[0] for title in titles] == [f"trial {t.number}" for t in with_steps]


def test_every_trial_is_in_the_figure_once() -> None:
    study = grown_study(50)
    numbers = sorted(t.number for t in study.get_trials() if "nasmorph:steps" in t.user_attrs)
    shown = [text for trace in vis.plot_lineage(study).data for text in trace.hovertext or ()]
    assert sorted(int(text.split(",")[0].removeprefix("trial ")) for text in shown) == numbers


@pytest.mark.parametrize("plot", PLOTS)
def test_several_objectives_need_a_target(plot: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="please specify the `target`"):
        plot(grown_study(3, directions=["minimize", "minimize"]))
    with pytest.raises(ValueError, match="target must return a number but got 'x'"):
        plot(family(), target=lambda t: "x")
    with pytest.raises(TypeError, match="target must be a function"):
        plot(family(), target=1)


def test_pareto_errors() -> None:
    with pytest.raises(ValueError, match="shows two objectives but the study has 3"):
        vis.plot_pareto(grown_study(2, directions=["minimize"] * 3))
    with pytest.raises(ValueError, match="must be given together"):
        vis.plot_pareto(family(), targets=lambda t: (1, 2))
    with pytest.raises(ValueError, match="cost must be one of"):
        vis.plot_pareto(family(), cost="seconds")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'minimize' or 'maximize' but got 'up'"):
        vis.plot_pareto(family(), targets=lambda t: (1, 2), directions=["up", "minimize"])
    with pytest.raises(ValueError, match="two entries"):
        vis.plot_pareto(family(), target_names=["x"])
    with pytest.raises(ValueError, match="two numbers"):
        vis.plot_pareto(family(), targets=lambda t: (1, 2, 3), directions=["minimize", "minimize"])


def test_values_that_are_not_finite_are_left_out() -> None:
    study = study_of([trial([math.inf]), trial([0.5])])
    assert [node.share for node in get_lineage_info(study, None, "v").nodes] == [None, 0.5]
    assert [p.number for p in _get_pareto_info(study).points] == [1]
    assert [p.number for p in _get_growth_info(study, None, "v").incumbents] == [1]


def test_hyperparameters_cannot_break_a_picture() -> None:
    nasty = "<b>&\x01"
    frozen = trial([0.5])
    frozen.params, frozen.distributions = {nasty: 0.5}, {nasty: optuna.distributions.FloatDistribution(0, 1)}
    study = study_of([frozen])
    ET.fromstring(vis.lineage_to_svg(study, target_name=nasty))
    (text,) = (t for trace in vis.plot_lineage(study).data for t in trace.hovertext or ())
    assert "&lt;b&gt;&amp;" in text


# How it looks.


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [theme.BLUE, theme.GREEN, theme.VERMILLION, theme.PURPLE, theme.GREY])
@pytest.mark.parametrize("background", ["#ffffff", "#111111"])
def test_colours_stand_out_on_light_and_dark(colour: str, background: str) -> None:
    low, high = sorted((luminance(colour), luminance(background)))
    assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.1, 1.4.11


def test_values_become_lighter_in_print() -> None:
    shades = [luminance(theme.colour_at(i / 20)) for i in range(21)]
    assert all(a < b for a, b in pairwise(shades))
    assert (theme.colour_at(0), theme.colour_at(1)) == (theme.VIRIDIS[0], theme.VIRIDIS[-1])


def test_changes_differ_in_more_than_colour() -> None:
    looks = theme.CHANGE_LOOKS.values()
    assert len({(look.width, look.dash) for look in looks}) == len({look.sign for look in looks}) == len(looks)


def test_without_plotly() -> None:
    code = """
import sys
sys.modules["plotly"] = None
import optuna_nas_morph.visualization as vis
from tests.studies import MLP
assert not vis.is_available()
assert vis.architecture_to_svg(MLP).startswith("<svg")
try:
    vis.plot_architecture(MLP)
except ImportError as e:
    assert "plotly" in str(e)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
