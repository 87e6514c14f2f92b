"""The quickstart's search on Fashion-MNIST.

Run it with ``python examples/fashion_mnist.py --data fashion.npz``, where the file holds ``x_train`` (60000, 28, 28),
``y_train``, ``x_test`` (10000, 28, 28) and ``y_test`` as uint8; or without ``--data`` where torchvision is installed,
which downloads it to ``--root``. The data set: https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from quickstart import Data, report, search
from torch import Tensor

from optuna_nas_morph import presets

N_VALIDATION = 5_000


def from_npz(path: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with np.load(path) as arrays:  # numpy refuses pickled objects by default
        return (
            torch.as_tensor(arrays["x_train"]),
            torch.as_tensor(arrays["y_train"]),
            torch.as_tensor(arrays["x_test"]),
            torch.as_tensor(arrays["y_test"]),
        )


def from_torchvision(root: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from torchvision.datasets import FashionMNIST

    train, test = FashionMNIST(root, train=True, download=True), FashionMNIST(root, train=False, download=True)
    return train.data, train.targets, test.data, test.targets


def split(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, n_train: int) -> Data:
    def ready(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return (images.float().unsqueeze(1) / 255 - 0.286) / 0.353, labels.long()

    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    chosen, held_out = order[: min(n_train, len(x) - N_VALIDATION)], order[-N_VALIDATION:]
    return Data(ready(x[chosen], y[chosen]), ready(x[held_out], y[held_out]), ready(x_test, y_test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="npz file; see above")
    parser.add_argument("--root", type=Path, default=Path("data"), help="where torchvision keeps it")
    parser.add_argument("--train-images", type=int, default=55_000, help="fewer make it faster")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=2, help="epochs that every trial trains")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", default="sqlite:///fashion_mnist.db")
    args = parser.parse_args()

    arrays = from_npz(args.data) if args.data else from_torchvision(args.root)
    data = split(*arrays, n_train=args.train_images)
    space = presets.cnn(input_shape=(1, 28, 28), n_classes=10, width=8, depth=3)
    search(args.storage, "fashion-mnist", space, data, args.trials, args.seed, args.epochs)
    report(args.storage, "fashion-mnist", space, data, Path("fashion_mnist.svg"))


if __name__ == "__main__":
    main()
