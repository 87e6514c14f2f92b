"""Pictures of a study and of its architectures, made with plotly as those of :mod:`optuna.visualization`.

Functions named ``plot_`` return plotly figures and need plotly (``pip install optuna-nas-morph[plot]``); the others
return text and need nothing more.
"""

from optuna_nas_morph.visualization.architecture import plot_architecture
from optuna_nas_morph.visualization.architecture_mermaid import architecture_to_mermaid
from optuna_nas_morph.visualization.architecture_svg import architecture_to_svg
from optuna_nas_morph.visualization.architecture_text import architecture_to_text
from optuna_nas_morph.visualization.growth import plot_growth
from optuna_nas_morph.visualization.inheritance import plot_inheritance
from optuna_nas_morph.visualization.lineage import plot_lineage
from optuna_nas_morph.visualization.lineage_svg import lineage_to_svg
from optuna_nas_morph.visualization.motifs import plot_motifs
from optuna_nas_morph.visualization.pareto import plot_pareto
from optuna_nas_morph.visualization.plotly_imports import is_available
from optuna_nas_morph.visualization.surrogate import plot_surrogate
from optuna_nas_morph.visualization.theme import DARK, LIGHT, Theme

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "architecture_to_mermaid",
    "architecture_to_svg",
    "architecture_to_text",
    "is_available",
    "lineage_to_svg",
    "plot_architecture",
    "plot_growth",
    "plot_inheritance",
    "plot_lineage",
    "plot_motifs",
    "plot_pareto",
    "plot_surrogate",
]
