from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optuna_nas_morph import presets
from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.kernels.layer_sequence import layer_distance, layer_sequence, topological_order
from tests.kernels.strategies import multigraphs, permutations, simple_graphs

unhurried = settings(deadline=None)


def test_branches_stay_together():
    labels = ("add", "conv", "conv1x1", "relu", "conv", "input")
    graph = LabelledGraph(labels, ((5, 2), (5, 1), (1, 4), (4, 3), (3, 0), (2, 0)))
    sequence = layer_sequence(graph)
    assert sequence.layers == ("input", "conv", "conv", "relu", "conv1x1", "add")
    assert sequence.skips == ((1, 3, 0), (4, 1, 0))  # from the input to conv1x1, from relu to the sum


def test_parallel_edges_and_cycles():
    assert layer_sequence(LabelledGraph(("a", "b"), ((0, 1),) * 3)).skips == ((1, 0, 0),) * 2
    assert layer_sequence(LabelledGraph(("a", "b", "c"), ((0, 1), (1, 2), (2, 0), (1, 1)))).skips == (
        (2, 0, 1),
        (3, 0, 3),
    )
    assert layer_sequence(LabelledGraph((), ())).layers == ()


@unhurried
@given(simple_graphs(), st.data())
def test_edges_of_acyclic_graphs_point_forward(graph, data):
    acyclic = LabelledGraph(graph.labels, tuple((s, t) for s, t in graph.edges if s < t))
    graph = data.draw(permutations(acyclic))
    rank = {node: i for i, node in enumerate(topological_order(graph))}
    assert sorted(rank) == list(range(len(graph.labels)))
    assert all(rank[s] < rank[t] for s, t in graph.edges)


@unhurried
@given(multigraphs(), st.data())
def test_order_of_nodes_does_not_matter(graph, data):
    assert layer_sequence(data.draw(permutations(graph))) == layer_sequence(graph)


@pytest.mark.parametrize(
    "edges",
    [
        ((0, 1), (1, 0), (2, 3), (3, 4), (4, 5), (5, 2)),  # rings of two and of four: refinement sees no difference
        ((0, 4), (0, 5), (1, 4), (1, 5), (2, 6), (2, 7), (3, 6), (3, 7)),  # after one source, its twin is no other's
    ],
)
def test_order_of_symmetric_nodes_does_not_matter(edges):
    n = 1 + max(max(edge) for edge in edges)
    expected = layer_sequence(LabelledGraph(("a",) * n, edges))
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = rng.permutation(n).tolist()
        assert layer_sequence(LabelledGraph(("a",) * n, tuple((place[s], place[t]) for s, t in edges))) == expected


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("conv3x3.w5+bn+relu", "conv3x3.w5+bn+relu", 0),
        ("conv3x3.w5+bn+relu", "conv3x3.w6+bn+relu", 1 / 2),  # (64 - 32) / 64
        ("conv3x3.w5+bn+relu", "conv3x3.w8+bn+relu", 7 / 8),
        ("linear.w6", "linear.w5", 1 / 2),
        ("conv3x3.w5+bn+relu", "conv3x3.w5+bn", 1 / 3),  # two of three parts
        ("conv3x3.w5+bn+relu", "conv3x3.w5+ln+relu", 1 / 2),  # two of four
        ("conv3x3.w5+bn", "conv3x3.w6", 3 / 4),
        ("conv3x3.w5", "conv5x5.w5", 1),
        ("attention4.w6", "attention8.w6", 1),
        ("conv3x3.w5", "conv3x3", 1),
        ("add+relu", "add", 1 / 2),
        ("nor_conv_3x3", "nor_conv_3x3", 0),
        ("nor_conv_3x3", "skip_connect", 1),
        ("", ".wide", 1),
    ],
)
def test_layer_distance(a, b, distance):
    assert layer_distance(a, b) == pytest.approx(distance)
    assert layer_distance(b, a) == pytest.approx(distance)


heads = st.sampled_from(["conv.w0", "conv.w3", "conv.w4", "conv.w7", "conv", "linear.w3", "odd"])
labels = st.builds(lambda head, parts: "+".join([head, *parts]), heads, st.lists(st.sampled_from(["bn", "relu"])))


@unhurried
@given(labels, labels, labels)
def test_layer_distance_is_a_metric(a, b, c):
    assert layer_distance(a, a) == 0
    assert 0 <= layer_distance(a, b) == layer_distance(b, a) <= 1
    assert layer_distance(a, c) <= layer_distance(a, b) + layer_distance(b, c) + 1e-12


def test_widths_of_all_layers_of_a_network_count():
    narrow, wide = (presets.mlp((20,), 10, width=width).seed.kernel_graph() for width in (32, 64))
    distances = [layer_distance(a, b) for a, b in zip(narrow.labels, wide.labels, strict=True)]
    assert distances == [0, 0.5, 0.5, 0]  # the input, two hidden layers, the classes
