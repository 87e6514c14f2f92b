"""From a user's ``nn.Module`` to an architecture and its weights."""

from optuna_nas_morph.translation.translate import Example, Module, Translation, translate

__all__ = ["Example", "Module", "Translation", "translate"]
