"""An architecture is a value: a frozen graph of operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from optuna_nas_morph.errors import ArchitectureError
from optuna_nas_morph.ir import cost, serde
from optuna_nas_morph.ir.channels import ChannelGroups, channel_groups
from optuna_nas_morph.ir.cost import SavedTensors
from optuna_nas_morph.ir.fingerprint import fingerprint
from optuna_nas_morph.ir.kernel_graph import kernel_graph
from optuna_nas_morph.ir.labelled import LabelledGraph
from optuna_nas_morph.ir.ops import Op, Param
from optuna_nas_morph.ir.tensor import TensorSpec
from optuna_nas_morph.ir.validate import infer_specs


@dataclass(frozen=True)
class Node:
    """One operation in an architecture.

    Args:
        name:
            Unique in the architecture; letters, digits and underscores, starting with a letter. Parameters of the
            network are named ``<name>.<parameter>``.
        op:
            The operation.
        inputs:
            Names of the nodes that feed it, in order.
    """

    name: str
    op: Op
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """A directed acyclic graph of operations, from one or more inputs to one output.

    An architecture that exists is valid: structure and shapes are checked when it is made. Edits return new values.

    Args:
        nodes:
            In topological order; the last one is the output.

    Raises:
        ArchitectureError: If names repeat, an input is missing or comes later, shapes do not fit, or a node does not
            reach the output. The message names the node.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        self.__dict__["specs"] = infer_specs(self.nodes)

    @cached_property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Shape, channel axis and dtype of every node's output."""
        return infer_specs(self.nodes)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Position of every node by name."""
        return {node.name: i for i, node in enumerate(self.nodes)}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the nodes that each node feeds, in topological order, repeated if fed twice."""
        result: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                result[name].append(node.name)
        return {name: tuple(names) for name, names in result.items()}

    @cached_property
    def ancestors(self) -> Mapping[str, int]:
        """Per node, the nodes that it depends on, as a set of bits: bit ``index[name]``."""
        result: dict[str, int] = {}
        for node in self.nodes:
            bits = 0
            for name in node.inputs:
                bits |= result[name] | 1 << self.index[name]
            result[node.name] = bits
        return result

    @cached_property
    def groups(self) -> ChannelGroups:
        """Which widths change together."""
        return channel_groups(self)

    @cached_property
    def nonnegative(self) -> frozenset[str]:
        """Nodes whose output can never be negative, whatever the weights."""
        result: set[str] = set()
        for node in self.nodes:
            if node.op.nonnegative([name in result for name in node.inputs]):
                result.add(node.name)
        return frozenset(result)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input nodes, in the order in which a network takes its inputs."""
        return tuple(node.name for node in self.nodes if not node.inputs)

    @property
    def output(self) -> str:
        """Name of the output node."""
        return self.nodes[-1].name

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.nodes)

    def __getstate__(self) -> dict[str, object]:
        return {"nodes": self.nodes}  # nothing cached: the hash of a string differs between processes

    def __getitem__(self, name: str) -> Node:
        """The node of the given name.

        Raises:
            ArchitectureError: If there is none.
        """
        if name not in self.index:
            raise ArchitectureError(f"name must be one of the nodes {[n.name for n in self.nodes]} but got {name!r}.")
        return self.nodes[self.index[name]]

    def input_specs(self, name: str) -> tuple[TensorSpec, ...]:
        """What enters a node."""
        return tuple(self.specs[i] for i in self[name].inputs)

    # What it costs, what it is.

    @cached_property
    def params(self) -> Mapping[str, Param]:
        """Every parameter and buffer by its name in the network, ``<node>.<parameter>``."""
        return cost.params(self)

    @cached_property
    def n_parameters(self) -> int:
        """Trained parameters, as PyTorch counts them."""
        return cost.n_parameters(self)

    @cached_property
    def flops(self) -> int:
        """Floating point operations of the matrix products for one sample, as ``torch.utils.flop_counter``."""
        return cost.flops(self)

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes of the outputs of all nodes for one sample, 4 per float and 8 per token id."""
        return cost.activation_bytes(self)

    @cached_property
    def saved_tensors(self) -> SavedTensors:
        """What autograd saves for the backward pass in training."""
        return cost.saved_tensors(self)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that do not depend on names or on the order of nodes."""
        return fingerprint(self)

    def kernel_graph(self) -> LabelledGraph:
        """What a graph kernel sees: norms and activations folded into the operation before them."""
        return kernel_graph(self)

    def to_json(self) -> str:
        """Versioned JSON."""
        return serde.to_json(self)

    @staticmethod
    def from_json(text: str) -> Architecture:
        """Inverse of `to_json`.

        Raises:
            ArchitectureError: If the text is not JSON, of another version, or describes no valid architecture.
        """
        return serde.from_json(text)

    def __str__(self) -> str:
        width = max(len(node.name) for node in self.nodes)
        lines = []
        for node in self.nodes:
            label = node.op.label(self.input_specs(node.name))
            source = f"<- {', '.join(node.inputs)}" if node.inputs else ""
            lines.append(f"{node.name:<{width}}  {label:<20} {self.specs[node.name]!s:<20} {source}".rstrip())
        return "\n".join(lines)

    # Edits: each returns a new architecture.

    def replace(self, ops: Mapping[str, Op]) -> Architecture:
        """Other operations at the named nodes.

        Raises:
            ArchitectureError: If a name is unknown, or the result is not valid.
        """
        for name in ops:
            self[name]
        return Architecture(tuple(replace(n, op=ops[n.name]) if n.name in ops else n for n in self.nodes))

    def insert(self, after: str, new: Sequence[Node]) -> Architecture:
        """Put nodes behind a node; whatever the node fed is then fed by the last of the new ones.

        Args:
            after:
                Name of an existing node that is not the output.
            new:
                In topological order; their inputs may be any node up to ``after``, and each other.

        Raises:
            ArchitectureError: If ``after`` is unknown, or the result is not valid.
        """
        self[after]
        if not new:
            return self
        end = new[-1].name
        nodes: list[Node] = []
        for node in self.nodes:
            if after in node.inputs:
                node = replace(node, inputs=tuple(end if i == after else i for i in node.inputs))
            nodes.append(node)
            if node.name == after:
                nodes.extend(new)
        return Architecture(tuple(nodes))

    def fresh_names(self, *stems: str) -> tuple[str, ...]:
        """Unused names ``<stem>_<k>`` with one ``k``, above every number in use."""
        used = [int(number) for n in self.nodes if (number := n.name.rpartition("_")[2]).isdecimal()]
        k = max(used, default=0) + 1
        return tuple(f"{stem}_{k}" for stem in stems)
