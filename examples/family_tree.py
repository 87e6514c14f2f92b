"""Draw the family tree of a study as SVG: who descends from whom, by which morphisms, and how good it was.

Run it with ``python examples/family_tree.py sqlite:///quickstart.db digits family_tree.svg``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from html import escape
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

ROW, MARGIN, RADIUS = 30, 24, 7
LETTER = 6.1
"""Width of a letter of the labels, in pixels."""
COLOURS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""Viridis: even steps for colour-blind eyes and in print."""
SHORT = {
    "insert_residual_block": "block",
    "deepen": "deepen",
    "widen": "widen",
    "grow_kernel": "kernel",
    "add_skip": "skip",
    "concat_skip": "concat",
}


def family_tree(study: optuna.Study) -> str:
    """SVG of a study with one objective: one row per lineage, the seed on the left, the best trial outlined."""
    trials = {t.number: t for t in study.get_trials(deepcopy=False) if "nasmorph:steps" in t.user_attrs}
    if not trials:
        raise ValueError(f"study {study.study_name!r} has no trial with an architecture.")
    parent = {n: t.user_attrs.get("nasmorph:parent") for n, t in trials.items()}
    children: dict[int | None, list[int]] = {}
    for number in trials:
        children.setdefault(parent[number] if parent[number] in trials else None, []).append(number)

    depth: dict[int, int] = {}
    for number in trials:  # parents have lower numbers
        depth[number] = depth[parent[number]] + 1 if parent[number] in depth else 0
    x_of = [float(MARGIN)]
    for d in range(1, max(depth.values()) + 1):
        gap = max(label_width(trials[n]) for n in trials if depth[n] == d)
        x_of.append(x_of[-1] + gap + 92)

    place: dict[int, tuple[float, float]] = {}
    rows = 0

    def put(number: int) -> None:
        nonlocal rows
        heirs = children.get(number, [])
        row = rows
        for heir in heirs:
            put(heir)
        if not heirs:
            rows += 1
        ys = [place[heir][1] for heir in heirs]
        y = (ys[0] + ys[-1]) / 2 if ys else MARGIN + row * ROW
        place[number] = (x_of[depth[number]], y)

    for root in children.get(None, []):
        put(root)

    values = {n: t.value for n, t in trials.items() if t.value is not None}
    ranks = {n: i / max(1, len(values) - 1) for i, n in enumerate(sorted(values, key=lambda n: values[n]))}
    if study.direction == optuna.study.StudyDirection.MINIMIZE:
        ranks = {n: 1 - r for n, r in ranks.items()}
    edges, nodes = [], []
    for number, (x, y) in place.items():
        trial = trials[number]
        if (p := parent[number]) in place:
            x0, y0 = place[p]
            start = x0 + 58
            edges.append(
                f'<path d="M{start:.0f} {y0:.1f} C{start + 24:.0f} {y0:.1f} {start:.0f} {y:.1f} '
                f'{start + 24:.0f} {y:.1f} H{x - RADIUS:.0f}" fill="none" stroke="#b6bcc6"/>'
                f'<text x="{x - RADIUS - 5:.0f}" y="{y - 4:.1f}" text-anchor="end" fill="#59636e">'
                f"{escape(label(trial))}</text>"
            )
        colour = COLOURS[round(ranks[number] * (len(COLOURS) - 1))] if number in ranks else "#ffffff"
        best = bool(values) and number == study.best_trial.number
        text = f"{trial.value:.3f}" if trial.value is not None else trial.state.name.lower()
        title = f"trial {number}: {trial.user_attrs['nasmorph:parameters']:,} parameters, value {text}"
        nodes.append(
            f'<g><title>{title}</title><circle cx="{x:.0f}" cy="{y:.1f}" r="{RADIUS}" fill="{colour}" '
            f'stroke="{"#cf222e" if best else "#59636e"}" stroke-width="{3 if best else 1}"/>'
            f'<text x="{x + RADIUS + 5:.0f}" y="{y + 4:.1f}" font-weight="{"bold" if best else "normal"}" '
            f'fill="#1f2328">{text}</text></g>'
        )
    width = max(x for x, _ in place.values()) + 80
    height = 2 * MARGIN + (rows - 1) * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="ui-sans-serif, Helvetica, Arial, sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" rx="8" fill="#ffffff"/>{"".join(edges)}{"".join(nodes)}</svg>\n'
    )


def label(trial: FrozenTrial) -> str:
    """Morphisms since the parent, in short, repeats counted."""
    names = []
    for step in trial.user_attrs["nasmorph:morphisms"]:
        name, _, fields = step.partition(" at ")[0].partition(":")
        names.append(f"widen ×{fields.partition(',')[0]}" if name == "widen" else SHORT.get(name, name))
    return ", ".join(name if n == 1 else f"{n}× {name}" for name, n in Counter(names).items())


def label_width(trial: FrozenTrial) -> float:
    return LETTER * len(label(trial)) + 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage")
    parser.add_argument("study_name")
    parser.add_argument("path", type=Path)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    args.path.write_text(family_tree(optuna.load_study(storage=args.storage, study_name=args.study_name)))


if __name__ == "__main__":
    main()
