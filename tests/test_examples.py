"""Every example runs, small, and shows what it promises. Run them with ``tox run -e examples``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from sklearn.datasets import load_digits

pytestmark = pytest.mark.examples

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(directory: Path, name: str, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def assert_is_report(output: str, n_trials: int) -> None:
    rows = [line for line in output.splitlines() if line[:4].strip().isdecimal()]
    assert len(rows) == n_trials
    assert sum("*" in row[:6] for row in rows) == 1
    assert rows[0].endswith("seed")
    assert "inherited" in output
    assert "loaded from the store" in output
    assert "seed architecture" in output
    assert "optuna-dashboard sqlite:///" in output


def test_quickstart_its_family_tree_and_its_best_network(tmp_path: Path) -> None:
    output = run(tmp_path, "quickstart", "--trials", "4", "--epochs", "1")
    assert_is_report(output, 4)
    assert ET.parse(tmp_path / "quickstart.svg").getroot().tag.endswith("svg")
    # Started again, the search goes on.
    assert_is_report(run(tmp_path, "quickstart", "--trials", "2", "--epochs", "1"), 6)

    run(tmp_path, "family_tree", "sqlite:///quickstart.db", "digits", "tree.svg")
    tree = ET.parse(tmp_path / "tree.svg")
    titles = [e.text for e in tree.iter() if e.tag.endswith("title")]
    assert len(titles) == 6

    output = run(tmp_path, "take_away", "sqlite:///quickstart.db", "digits")
    assert "class Network(nn.Module):" in output and "bytes of activations per sample" in output
    taken = "import best, torch; print(tuple(best.load()(torch.zeros(3, 1, 8, 8)).shape))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", taken], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "(3, 10)\n"


def test_fashion_mnist(tmp_path: Path) -> None:
    # Digits enlarged to the format of the real file, which tests do not download.
    images, labels = load_digits(return_X_y=True)
    big = np.pad(np.kron(images.reshape(-1, 8, 8), np.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
    x, y = np.tile((big * 15).astype(np.uint8), (4, 1, 1)), np.tile(labels.astype(np.uint8), 4)
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x[:300], y_test=y[:300])
    output = run(
        tmp_path, "fashion_mnist", "--data", "images.npz", "--train-images", "400", "--trials", "3", "--epochs", "1"
    )
    assert_is_report(output, 3)
    assert (tmp_path / "fashion_mnist.svg").exists()


def test_own_network(tmp_path: Path) -> None:
    output = run(tmp_path, "own_network", "--trials", "4", "--epochs", "1")
    assert output.startswith("100% of 1,474 parameters are in layers that can be made wider")
    assert "the network of one's own" in output and "best, trial " in output
    page = (tmp_path / "own_network.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "Lineage" in page
