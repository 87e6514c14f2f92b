"""Names and docstrings for exported source, in this package's own words: nothing comes from an architecture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from optuna_nas_morph.export.blocks import NETWORK, Block, Step
from optuna_nas_morph.export.layers import Layer
from optuna_nas_morph.ir import TensorSpec

_WORDS = {"batch_norm": "Norm", "layer_norm": "Norm", "rms_norm": "Norm"}
_MERGES = {"add": "ResidualBlock", "concat": "DenseLayer", "multiply": "GatedBlock"}
_NOUNS = {"conv": "convolution", "linear": "linear layer"}


def summary(block: Block, name: str) -> str:
    """One line that says what a class is, for its docstring."""
    parts = block.steps[0].parts if block.is_sequence else ()
    if parts and block.key != NETWORK and all(isinstance(part, Layer) for part in parts):
        text = _listed([_title(layer) for layer in block.layers])
        return f"{text[0].upper()}{text[1:]}."
    counts = Counter(_noun(layer) for layer in block.layers if layer.has_weights and not layer.node.op.folds)
    content = _listed([f"{n} {noun}{'s' if n > 1 else ''}" for noun, n in counts.items()]) or "no weights"
    if block.key == NETWORK:
        ends = f"From {batch_of(block.input)} to {batch_of(block.output)}"
        return f"{ends}: {content}." if len(ends + content) < 100 else f"{ends}."
    return f"{re.sub('(?<!^)(?=[A-Z])', ' ', name.rstrip('0123456789')).capitalize()} with {content}."


def class_name(block: Block) -> str:
    """What a block is called: a run by its layers, anything else by what joins its branches."""
    if block.is_sequence and all(isinstance(part, Layer) for part in block.steps[0].parts):
        return "".join(_WORDS.get(layer.node.op.op_name) or _camel(layer) for layer in block.layers)
    merges = [step for step in block.steps if len(step.inputs) > 1]
    branches = {name for merge in merges for name in merge.inputs}
    trunk = [step for step in block.steps if step.is_module and step.output not in branches]
    if any(isinstance(part, Block) and part.has_merges for step in trunk for part in step.parts):
        return "Stage"
    (part,) = merges[0].parts if len(merges) == 1 else (None,)
    return _MERGES.get(part.node.op.op_name, "Block") if isinstance(part, Layer) else "Block"


def _title(layer: Layer) -> str:
    """An activation by its class, anything else in words."""
    return layer.class_name if hasattr(layer.node.op, "function") else _noun(layer)


def _noun(layer: Layer) -> str:
    *first, last = layer.node.op.op_name.split("_")
    return " ".join([*first, _NOUNS.get(last, last)])


def _listed(words: Sequence[str]) -> str:
    """As in ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def batch_of(spec: TensorSpec) -> str:
    """Shape of a batch, as in ``(N, 3, 32, 32)``."""
    return f"(N, {', '.join(map(str, spec.shape))})"


def _camel(layer: Layer) -> str:
    """As in ``ConvNormReLU``."""
    if hasattr(layer.node.op, "function"):
        return layer.class_name
    return "".join(word.capitalize() for word in layer.node.op.op_name.split("_"))


def attribute_names(block: Block) -> tuple[str, ...]:
    """A name for the module of every step, by what it is there for; empty for a step that is an expression."""
    stems = [_stem(block, i) if step.is_module else "" for i, step in enumerate(block.steps)]
    counts, seen = Counter(stems), Counter[str]()
    result = []
    for stem in stems:
        seen[stem] += 1
        result.append(stem if counts[stem] == 1 or not stem else f"{stem}_{seen[stem]}")
    return tuple(result)


def _stem(block: Block, i: int) -> str:
    step, is_network = block.steps[i], block.key == NETWORK
    readers = [other for other in block.steps if step.output in other.inputs]
    if is_network and not readers and any(other.is_module for other in block.steps[:i]):
        return "head"
    if len(readers) == 1 and len(readers[0].inputs) > 1:
        return _branch_name(block, step, readers[0])
    if is_network and i == 0 and any(s.is_module for s in block.steps[1:-1]):
        return "stem"
    if all(isinstance(part, Block) and part.has_merges for part in step.parts):
        return "blocks" if len(step.parts) > 1 else "block"
    if len(step.parts) == 1 and isinstance(step.parts[0], Layer):
        return step.parts[0].word
    return "layers"


def _branch_name(block: Block, step: Step, merge: Step) -> str:
    (part,) = merge.parts
    assert isinstance(part, Layer)
    kind = part.node.op.op_name
    if kind == "multiply":
        return "gate"
    if kind == "concat":
        return "branch"
    rivals = [s for s in block.steps if s.output in merge.inputs and s.is_module]
    longest = max(rivals, key=lambda s: len(s.layers))
    n_weighted = sum(layer.has_weights for layer in step.layers)
    return "body" if step is longest and (n_weighted > 1 or len(step.layers) > 2) else "shortcut"
