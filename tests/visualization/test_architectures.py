"""Pictures of architectures: every node once, what changed marked, everything escaped."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import optuna
import pytest

from optuna_nas_morph import Architecture, CellSpace, LabelledGraph, presets, suggest_architecture
from optuna_nas_morph.morphisms import AddSkip, GrowKernel, InsertResidualBlock, Morphism, Widen
from optuna_nas_morph.visualization import (
    DARK,
    architecture_to_mermaid,
    architecture_to_svg,
    architecture_to_text,
    plot_architecture,
)
from optuna_nas_morph.visualization.architecture_mermaid import diagram_to_mermaid
from optuna_nas_morph.visualization.architecture_svg import diagram_to_svg
from optuna_nas_morph.visualization.diagram import diagram_of_architecture, diagram_of_graph
from optuna_nas_morph.visualization.subject import subject_of
from optuna_nas_morph.visualization.theme import Change
from tests.strategies import example_architectures, random_architecture
from tests.studies import CNN, MLP, SPACE
from tests.visualization.studies import plain_trial, study_of, trial

SVG = "{http://www.w3.org/2000/svg}"
RESNET = presets.resnet((1, 28, 28), 10).seed
NASTY = '<script>alert("&\'")</script>\x00]]>%{x}#<br>'


def child_of(architecture: Architecture, morphism: Morphism, i: int = 0) -> Architecture:
    return morphism.apply(architecture, morphism.sites(architecture)[i])


def titles(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}title")]


# What is shown.


@pytest.mark.parametrize("seed", range(10))
def test_boxes_are_those_of_a_graph_kernel(seed: int, rng: np.random.Generator) -> None:
    architecture = random_architecture(np.random.default_rng(seed))
    graph, diagram = architecture.kernel_graph(), diagram_of_architecture(architecture)
    assert len(diagram.boxes) == len(graph.labels)
    assert sorted((link.source, link.target) for link in diagram.links) == sorted(graph.edges)
    assert [1 + box.text[1].count("+") if len(box.text) == 3 else 1 for box in diagram.boxes] == [
        1 + label.count("+") for label in graph.labels
    ]
    assert {box.change for box in diagram.boxes} == {Change.SAME} and not diagram.compares


def test_boxes_say_what_they_are_and_cost() -> None:
    box = diagram_of_architecture(CNN).boxes[1]
    assert (box.title, box.lines) == ("conv3x3", ("+ bn + relu", "3×5×5"))
    # 3 * 1 * 3 * 3 weights, scale and shift of 3 channels; 2 * 27 * 25 operations.
    assert box.details[0] == "33 parameters, 1.35 k FLOPs"
    assert [line.split(":")[0] for line in box.details[1:]] == ["conv_1", "norm_1", "relu_1"]
    last = diagram_of_architecture(CNN).boxes[-1]
    assert (last.title, last.lines, last.share) == ("linear", ("2",), 10 / 112)  # conv_2 has 4 * (27 + 1)


def test_a_widening_changes_the_layer_and_resizes_what_is_tied() -> None:
    child = child_of(CNN, Widen(2.0))
    diagram = diagram_of_architecture(child, CNN)
    assert [box.change for box in diagram.boxes].count(Change.CHANGED) == 1
    box = diagram.boxes[1]
    assert box.change == Change.CHANGED
    assert box.text == ("~ conv3x3", "+ bn + relu", "3→6×5×5")
    assert "out_channels 3 → 6" in box.details[1]
    assert all(link.change == Change.SAME for link in diagram.links)


def test_a_larger_kernel_shows_both() -> None:
    box = diagram_of_architecture(child_of(CNN, GrowKernel(2)), CNN).boxes[1]
    assert box.title == "conv3x3 → conv5x5"
    assert "kernel_size 3×3 → 5×5" in box.details[1]


def test_what_is_inserted_is_added_with_the_links_to_it() -> None:
    child = child_of(RESNET, InsertResidualBlock(3), 1)
    diagram = diagram_of_architecture(child, RESNET)
    new = [n.name for n in child.nodes if n.name not in RESNET.index]
    added = {i for i, box in enumerate(diagram.boxes) if box.change == Change.ADDED}
    assert {line.split(":")[0] for i in added for line in diagram.boxes[i].details[1:]} == set(new)
    for link in diagram.links:
        assert (link.change == Change.ADDED) == bool({link.source, link.target} & added)
    assert "(+" in diagram.caption


def test_a_link_between_old_boxes_can_be_new() -> None:
    rows = MLP.nodes
    before = Architecture((*rows[:3], rows[-1].__class__("fc", rows[-1].op, ("a_relu",))))
    assert {link.change for link in diagram_of_architecture(before, before).links} == {Change.SAME}
    diagram = diagram_of_architecture(before, MLP)
    assert [link.change for link in diagram.links] == [Change.SAME, Change.ADDED]
    assert "without b, b_relu" in diagram.caption


# Forms.


@pytest.mark.parametrize("name", sorted(example_architectures()))
def test_svg_holds_every_node_once(name: str) -> None:
    architecture = example_architectures()[name]
    text = architecture_to_svg(architecture)
    names = [line.split(":")[0] for title in titles(text) for line in title.split("\n")[2:]]
    assert sorted(names) == sorted(architecture.index)
    root = ET.fromstring(text)
    assert not {element.tag for element in root.iter()} & {f"{SVG}{tag}" for tag in ("script", "style", "image", "use")}
    assert not [key for element in root.iter() for key in element.attrib if key in ("id", "href", "class")]


def test_svg_is_as_large_as_what_it_holds() -> None:
    root = ET.fromstring(architecture_to_svg(RESNET, theme=DARK))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    corners = []
    for group in root.iter(f"{SVG}g"):
        for path in group.findall(f"{SVG}path"):
            numbers = path.attrib["d"].replace("M", " ").replace("C", " ").replace("Z", " ").replace(",", " ").split()
            corners += list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
    assert min(x for x, _ in corners) >= 0 and max(x for x, _ in corners) < width
    assert min(y for _, y in corners) >= 0 and max(y for _, y in corners) < height
    assert root[0].attrib["fill"] == DARK.background


def test_everything_is_escaped() -> None:
    diagram = diagram_of_graph(LabelledGraph((NASTY, "b"), ((0, 1),)))
    svg = diagram_to_svg(diagram, NASTY)
    assert NASTY.replace("\x00", "�") in [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]
    assert "<script" not in svg and "\x00" not in svg
    mermaid = diagram_to_mermaid(diagram)
    label = mermaid.splitlines()[1].removeprefix('    n0["').removesuffix('"]').replace("<br/>", "")
    assert "alert" in label and not set("<>&\"'%()[]{}\x00") & set(label)
    figure = plot_architecture(LabelledGraph((NASTY, "b"), ((0, 1),)))
    shown = [text for trace in figure.data for text in (*(trace.text or ()), *(trace.hovertext or ()))]
    assert shown and not any("<script" in text for text in shown)
    assert any("&lt;script&gt;" in text for text in shown)


def test_mermaid() -> None:
    child = child_of(MLP, AddSkip())
    lines = architecture_to_mermaid(child, parent=MLP).splitlines()
    diagram = diagram_of_architecture(child, MLP)
    assert lines[0] == "flowchart TD"
    assert len([line for line in lines if '["' in line]) == len(diagram.boxes)
    assert len([line for line in lines if "-->" in line or "==>" in line]) == len(diagram.links)
    (members,) = (line for line in lines if line.strip().startswith("class ") and line.endswith(" added"))
    expected = [f"n{i}" for i, box in enumerate(diagram.boxes) if box.change == Change.ADDED]
    assert members.split()[1].split(",") == expected


def test_text() -> None:
    graph = LabelledGraph(("in", "a", "b+relu", "c", "sum"), ((0, 1), (1, 2), (0, 3), (2, 4), (3, 4)))
    assert architecture_to_text(graph).splitlines() == [
        "Graph: 5 nodes, 5 edges",
        "",
        "  o───╮  in",
        "  o   │  a",
        "  o─╮ │  b    + relu",
        "    │ │",
        "  o─┼─╯  c",
        "  o─╯    sum",
    ]


def test_text_marks_changes() -> None:
    rows = architecture_to_text(child_of(CNN, Widen(2.0)), parent=CNN).splitlines()[2:]
    assert [row[0] for row in rows] == [" ", "~", " ", " ", " "]
    assert "3→6×5×5" in rows[1]


# Figures.


def test_figure_has_every_box_once() -> None:
    figure = plot_architecture(RESNET)
    (labels,) = (trace for trace in figure.data if trace.mode == "text")
    diagram = diagram_of_architecture(RESNET)
    assert len(labels.text) == len(diagram.boxes)
    names = [line.split(":")[0] for text in labels.hovertext for line in text.split("<br>")[2:]]
    assert sorted(names) == sorted(RESNET.index)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # downwards


def test_figure_has_a_legend_of_what_changed() -> None:
    figure = plot_architecture(child_of(RESNET, Widen(2.0)), parent=RESNET)
    assert [trace.name for trace in figure.data if trace.showlegend] == ["unchanged", "changed"]
    assert not [trace.name for trace in plot_architecture(RESNET).data if trace.showlegend]


def test_a_hundred_nodes_fit_on_a_page() -> None:
    architecture = presets.resnet((3, 32, 32), 10, depth=5).seed
    assert len(architecture.nodes) >= 100
    layout = plot_architecture(architecture).layout
    assert layout.width < 1600 and layout.height < 1200


# Of what.


def test_subjects() -> None:
    child = child_of(MLP, Widen(2.0))
    first, second = trial([0.5]), trial([0.7], architecture=child, steps=["widen:2 at a"], parent=0)
    study = study_of([first, second, plain_trial([0.9]), trial([0.6])])
    for subject in (subject_of(study), subject_of(study, 1)):
        assert subject is not None and subject.title == "Architecture of trial 1 against trial 0"
        assert subject.diagram == diagram_of_architecture(child, MLP)
    alone = subject_of(study.get_trials()[1])
    assert alone is not None and alone.diagram == diagram_of_architecture(child)
    given = subject_of(study, 1, child)
    assert given is not None and given.diagram == diagram_of_architecture(child, child)
    assert subject_of(study_of([first, second], ["minimize"])).title == "Architecture of trial 0"  # type: ignore[union-attr]


def test_subject_of_a_running_trial() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(2):
        study.enqueue_trial({"arch/n": 0})
    first = study.ask()
    suggest_architecture(first, SPACE)
    study.tell(first, 1.0)
    second = study.ask()
    suggest_architecture(second, SPACE)
    subject = subject_of(second)
    assert subject is not None and subject.title == "Architecture of trial 1 against trial 0"


def test_subject_of_a_closed_space() -> None:
    space = CellSpace({"a": ("x", "y")}, lambda choices: LabelledGraph(("in", choices["a"]), ((0, 1),)))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: float(suggest_architecture(t, space)["a"] == "x"), n_trials=3)
    subject = subject_of(study, 0)
    assert subject is not None and subject.title == "Cell of trial 0"
    assert subject.diagram.boxes[1].title == study.trials[0].params["arch/a"]


def test_errors(caplog: pytest.LogCaptureFixture) -> None:
    study = study_of([plain_trial([0.1]), trial([0.2])])
    with pytest.raises(ValueError, match="trial 0 has no architecture"):
        plot_architecture(study, trial=0)
    with pytest.raises(ValueError, match="below 2, but got 2"):
        plot_architecture(study, trial=2)
    with pytest.raises(ValueError, match="please specify the `trial`"):
        plot_architecture(study_of([trial([0.1, 0.2])], ["minimize", "minimize"]))
    with pytest.raises(TypeError, match="source must be"):
        plot_architecture("resnet")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="parent must be"):
        plot_architecture(MLP, parent=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parent must have an architecture"):
        plot_architecture(MLP, parent=study.get_trials()[0])
    with pytest.raises(ValueError, match="trial must be left out"):
        plot_architecture(MLP, trial=1)
    with pytest.raises(ValueError, match="parent must be left out"):
        plot_architecture(LabelledGraph(("a",), ()), parent=MLP)
    empty = study_of([])
    assert not plot_architecture(empty).data
    assert "no complete trials with an architecture" in caplog.text
    for form in (architecture_to_svg, architecture_to_text, architecture_to_mermaid):
        with pytest.raises(ValueError, match="the study has none"):
            form(empty)
