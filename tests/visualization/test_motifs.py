"""Motifs: the picture shows the effects that it is given, and something for every study."""

from __future__ import annotations

import optuna
import pytest

from optuna_nas_morph import CellSpace, explain, suggest_architecture
from optuna_nas_morph.interpret import Effect, Explanation, HyperparameterEffect, Motif
from optuna_nas_morph.ir import LabelledGraph
from optuna_nas_morph.visualization import plot_motifs
from tests.visualization.studies import study_of, trial

PAIR = LabelledGraph(("conv3x3", "<script>"), ((0, 1),))


def motif(mean: float, half: float, n: int) -> Motif:
    return Motif(1, "pair", PAIR, Effect(mean, mean - half, mean + half, mean > 0), tuple(range(n)))


EXPLANATION = Explanation(
    (motif(3.0, 1.0, 7), motif(1.0, 2.0, 6), motif(-1.0, 0.5, 5), motif(-2.0, 1.0, 1)),
    (HyperparameterEffect("<b>lr", "> 0.1", Effect(0.5, 0.25, 0.75, True)),),
    0.9,
    10.0,
    20,
    100,
)


def test_best_and_worst_with_effect_interval_and_support() -> None:
    figure = plot_motifs(EXPLANATION, n_motifs=1)
    assert [a.text for a in figure.layout.annotations] == [
        "<b>help</b>", "<b>+3 [+2, +4]</b>", "in 7 trials",
        "<b>harm</b>", "<b>-2 [-3, -1]</b>", "in 1 trial",
        "<b>hyperparameters</b>", "<b>+0.5 [+0.25, +0.75]</b>", "&lt;b&gt;lr &gt; 0.1",
    ]  # fmt: skip
    labels = [text for trace in figure.data if trace.mode == "text" for text in trace.text]
    assert labels == ["<b>conv3x3</b>", "<b>&lt;script&gt;</b>"] * 2
    assert "median of 20 trials" in figure.layout.title.text and "90%" in figure.layout.title.text


def test_intervals_are_on_one_scale_and_unclear_dots_are_hollow() -> None:
    figure = plot_motifs(Explanation(EXPLANATION.motifs[:2], (), 0.9, 10.0, 20, 100))
    dots = [t for t in figure.data if t.mode == "markers" and t.marker.symbol in ("circle", "circle-open")]
    assert [t.marker.symbol for t in dots] == ["circle", "circle-open"]
    # From -1 to 4 over 240 pixels: 48 for each unit.
    assert [t.x[0] for t in dots] == pytest.approx([192.0, 96.0])


@pytest.mark.parametrize("n_trials", [0, 1])
def test_too_few_trials_make_an_empty_figure(n_trials: int, caplog: pytest.LogCaptureFixture) -> None:
    assert not plot_motifs(study_of([trial([0.5])] * n_trials)).data
    assert "no effects to compare" in caplog.text


def test_errors() -> None:
    with pytest.raises(TypeError, match="source must be a study or an Explanation but got a str"):
        plot_motifs("study")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_motifs must be a positive integer but got 0"):
        plot_motifs(EXPLANATION, n_motifs=0)


def test_motifs_of_a_closed_space_are_those_of_explain() -> None:
    space = CellSpace(
        {"a": ("x", "y", "z"), "b": ("x", "y")},
        lambda choices: LabelledGraph(("in", choices["a"], choices["b"]), ((0, 1), (1, 2))),
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: float(suggest_architecture(t, space)["a"] == "x"), n_trials=30)
    motifs = explain(study).motifs
    shown = [a.text for a in plot_motifs(study, n_motifs=1).layout.annotations]
    assert shown[0] == "<b>help</b>" and shown[3] == "<b>harm</b>"
    assert f"{motifs[0].effect.mean:+.3g} [" in shown[1] and shown[2] == f"in {motifs[0].support} trials"
    assert f"{motifs[-1].effect.mean:+.3g} [" in shown[4] and shown[5] == f"in {motifs[-1].support} trials"
    assert motifs[0].effect.mean < 0 < motifs[-1].effect.mean  # less is better
