"""Take the best network of a study away: as a file of plain PyTorch, as ONNX, and with a figure for its latency.

Run ``python examples/quickstart.py`` first, then ``python examples/take_away.py sqlite:///quickstart.db digits``. It
writes ``best.py`` and ``best.safetensors``: ``import best; network = best.load()`` needs PyTorch and safetensors alone.
With ``--onnx`` it also writes ``best.onnx`` (``pip install optuna-nas-morph[onnx]``).
"""

from __future__ import annotations

import argparse

import optuna

from optuna_nas_morph import export_onnx, export_source, latency, load_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage")
    parser.add_argument("study")
    parser.add_argument("--onnx", action="store_true")
    args = parser.parse_args()

    study = optuna.load_study(storage=args.storage, study_name=args.study)
    network = load_network(study, study.best_trial)
    print(export_source(network.architecture, "best.py", weights=network))
    if args.onnx:
        export_onnx(network, "best.onnx")

    architecture = network.architecture
    print(f"{architecture.n_parameters:>12,} parameters")
    print(f"{architecture.flops:>12,} operations in matrix products per sample")
    print(f"{architecture.activation_bytes:>12,} bytes of activations per sample")
    print(f"{latency(network)!s:>12}")


if __name__ == "__main__":
    main()
