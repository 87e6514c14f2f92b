"""plotly, if it is installed: as in `optuna.visualization`, a plot says so when it is not."""

from optuna._imports import try_import

with try_import() as plotly_imports:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

__all__ = ["go", "is_available", "make_subplots", "plotly_imports"]


def is_available() -> bool:
    """Whether plotly is installed, which functions named ``plot_`` need."""
    return plotly_imports.is_successful()
