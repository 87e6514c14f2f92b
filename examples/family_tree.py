"""Draw the family tree of a study: who descends from whom, by which morphisms, and how good it was.

Run it with ``python examples/family_tree.py sqlite:///quickstart.db digits family_tree.svg``. A path that ends in
``.html`` gets a picture that says more where the mouse rests; that needs plotly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import optuna

from optuna_nas_morph.visualization import lineage_to_svg, plot_lineage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage")
    parser.add_argument("study_name")
    parser.add_argument("path", type=Path)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(storage=args.storage, study_name=args.study_name)
    args.path.write_text(plot_lineage(study).to_html() if args.path.suffix == ".html" else lineage_to_svg(study))


if __name__ == "__main__":
    main()
