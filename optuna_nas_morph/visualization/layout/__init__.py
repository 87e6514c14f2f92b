"""Where things go in a drawing: pure functions from graphs and trees to coordinates."""

from optuna_nas_morph.visualization.layout.curves import Point, Route, sampled
from optuna_nas_morph.visualization.layout.forest import forest_layout
from optuna_nas_morph.visualization.layout.layered import Layout, layered_layout

__all__ = ["Layout", "Point", "Route", "forest_layout", "layered_layout", "sampled"]
