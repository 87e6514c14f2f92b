"""plotly, if it is installed, imported when it is first used; a plot says if it is not, as Optuna's do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna._imports import _LazyImport, try_import

if TYPE_CHECKING:
    from plotly import graph_objects as go
    from plotly import subplots
else:
    go, subplots = _LazyImport("plotly.graph_objects"), _LazyImport("plotly.subplots")

with try_import() as plotly_imports:
    import plotly  # noqa: F401

__all__ = ["go", "is_available", "plotly_imports", "subplots"]


def is_available() -> bool:
    """Whether plotly is installed, which functions named ``plot_`` need."""
    return plotly_imports.is_successful()
