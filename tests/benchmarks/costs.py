"""What the graph, the weights and the import cost, as ratios to something that everybody knows.

    python -m tests.benchmarks.costs

Every ratio is the median over repetitions that alternate between ours and the baseline in one process.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import torch

from optuna_nas_morph import Architecture, MorphSpace, Network, presets
from optuna_nas_morph.morphisms import Morphism, Site, fresh_weights
from optuna_nas_morph.spaces import Descendant


def ratio(
    ours: Callable[[Any], object],
    baseline: Callable[[Any], object],
    repeats: int,
    setup: Callable[[], Any] = lambda: None,
) -> tuple[float, float]:
    """Median and interquartile range of the ratios of paired runs; `setup` runs outside of the clock."""
    ratios: list[float] = []
    for _ in range(repeats + 2):
        times = []
        for run in (ours, baseline):
            prepared = setup()
            start = time.perf_counter()
            run(prepared)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    low, median, high = statistics.quantiles(ratios[2:], n=4)
    return median, high - low


def grown(n_nodes: int, rng: np.random.Generator) -> tuple[MorphSpace, Descendant]:
    """An architecture of about so many nodes, grown from the resnet preset."""
    space = presets.resnet(input_shape=(3, 32, 32), n_classes=10, max_morphisms=40)
    descendant = Descendant((), space.seed)
    while len(descendant.architecture.nodes) < n_nodes:
        descendant = space.random_child(descendant, rng) or descendant
    return space, descendant


def to_networkx(architecture: Architecture) -> nx.DiGraph:
    graph = nx.DiGraph()
    for node in architecture.nodes:
        graph.add_node(node.name, label=node.op.key)
        graph.add_edges_from((source, node.name) for source in node.inputs)
    return graph


def graph_cost(repeats: int, rng: np.random.Generator) -> None:
    space, descendant = grown(50, rng)
    architecture = descendant.architecture
    graph = to_networkx(architecture)
    for morphism in space.morphisms:
        sites = morphism.sites(architecture)
        middle = sites[len(sites) // 2]

        def ours(parent: Architecture, morphism: Morphism = morphism, site: Site = middle) -> str:
            return morphism.apply(parent, site).fingerprint

        def baseline(_: Architecture) -> str:
            return str(nx.weisfeiler_lehman_graph_hash(graph, node_attr="label", iterations=3))

        # A new parent each time, so that nothing is remembered of it but its shapes.
        median, spread = ratio(ours, baseline, repeats, lambda: Architecture(architecture.nodes))
        print(
            f"apply {morphism!s:<24} + validate + fingerprint, {len(architecture.nodes)} nodes / networkx "
            f"weisfeiler_lehman_graph_hash: {median:6.2f} (IQR {spread:.2f}, goal <= 3)"
        )


def weights_cost(repeats: int, rng: np.random.Generator) -> None:
    space = presets.resnet(input_shape=(3, 32, 32), n_classes=10, width=56, max_morphisms=4)
    weights = fresh_weights(space.seed, rng)
    network = Network(space.seed)
    network.load_state_dict(weights)
    for morphism in space.morphisms:
        site = morphism.sites(space.seed)[-1]
        child = morphism.apply(space.seed, site)

        def ours(_: None, morphism: Morphism = morphism, site: Site = site, child: Architecture = child) -> Network:
            new = morphism.transfer(space.seed, child, site, weights, rng)
            with torch.device("meta"):
                result = Network(child)
            result.to_empty(device="cpu").load_state_dict(new)
            return result

        median, spread = ratio(ours, lambda _: copy.deepcopy(network), repeats)
        print(
            f"build + transfer {morphism!s:<24} from {space.seed.n_parameters:,} to {child.n_parameters:,} "
            f"parameters / copy.deepcopy: {median:6.2f} (IQR {spread:.2f}, goal <= 5)"
        )


def import_cost(repeats: int) -> None:
    code = (
        "import time, torch, optuna; t = time.perf_counter(); import optuna_nas_morph; print(time.perf_counter() - t)"
    )
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(repeats)]
    print(
        f"import optuna_nas_morph after torch and optuna: median {statistics.median(seconds):.3f} s, "
        f"min {min(seconds):.3f} s (goal <= 0.3 s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "The hashes produced for directed graphs", UserWarning)
    rng = np.random.default_rng(args.seed)
    graph_cost(args.repeats, rng)
    weights_cost(args.repeats, rng)
    import_cost(max(3, args.repeats // 20))


if __name__ == "__main__":
    main()
