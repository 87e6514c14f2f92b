"""Random labelled graphs."""

from __future__ import annotations

from hypothesis import strategies as st

from optuna_nas_morph.ir.labelled import LabelledGraph


@st.composite
def multigraphs(draw, min_nodes: int = 0, max_nodes: int = 6) -> LabelledGraph:
    """Directed, with loops and parallel edges."""
    labels = draw(st.lists(st.sampled_from("abc"), min_size=min_nodes, max_size=max_nodes))
    if not labels:
        return LabelledGraph((), ())
    node = st.integers(0, len(labels) - 1)
    return LabelledGraph(tuple(labels), tuple(draw(st.lists(st.tuples(node, node), max_size=10))))


@st.composite
def simple_graphs(draw) -> LabelledGraph:
    """Directed, with at least one node and no loops or parallel edges."""
    graph = draw(multigraphs(min_nodes=1))
    return LabelledGraph(graph.labels, tuple(sorted({(s, t) for s, t in graph.edges if s != t})))


@st.composite
def symmetric_graphs(draw) -> LabelledGraph:
    """Every edge in both directions."""
    graph = draw(simple_graphs())
    return LabelledGraph(graph.labels, tuple(sorted({pair for s, t in graph.edges for pair in ((s, t), (t, s))})))


@st.composite
def permutations(draw, graph: LabelledGraph) -> LabelledGraph:
    """The same graph with nodes and edges in another order."""
    order = draw(st.permutations(range(len(graph.labels))))  # new place -> old node
    place = {node: i for i, node in enumerate(order)}
    edges = draw(st.permutations([(place[s], place[t]) for s, t in graph.edges]))
    return LabelledGraph(tuple(graph.labels[node] for node in order), tuple(edges))
