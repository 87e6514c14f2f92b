"""A network taken away: as source that needs PyTorch alone, or as ONNX."""

from optuna_nas_morph.export.onnx import export_onnx
from optuna_nas_morph.export.source import export_source

__all__ = ["export_onnx", "export_source"]
