"""What the benchmark of inheritance reports is right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata
from torch import nn

from tests.benchmarks import inheritance
from tests.benchmarks.inheritance import CUT_OFF, FULL, INHERITED, RANDOM, SHORT, cut_off, finalist_test, rankings, top

TINY = [
    *("--seeds", "1", "--trials", "4", "--startup", "2", "--epochs", "1", "--full-epochs", "2", "--final-seeds", "2"),
    *("--top-k", "1", "--max-morphisms", "2", "--max-parameters", "3000", "--ceiling", "--cut-off-epochs", "1", "4"),
]


def line(name: str, flops: float = 1.0, validation: float = 0.0, test: float = 0.0, **rest: Any) -> dict[str, Any]:
    return {"fingerprint": name, "params": name, "flops": flops, "validation": validation, "test": test, **rest}


def test_the_cut_off_arm_keeps_to_its_limit() -> None:
    rows = [line("a", 2), line("b", 3), line("c", 1)]
    assert [[r["params"] for r in cut_off(rows, limit)] for limit in (1, 2, 4.9, 5, 100)] == [
        ["a"],  # one at least
        ["a"],
        ["a"],
        ["a", "b"],
        ["a", "b", "c"],
    ]
    assert [[r["params"] for r in cut_off(rows, limit, beyond=1)] for limit in (1, 2, 5, 100)] == [
        ["a"],
        ["a", "b"],
        ["a", "b", "c"],
        ["a", "b", "c"],
    ]


def test_arms_that_keep_to_a_limit_are_also_shown_with_the_training_that_crosses_it() -> None:
    rows = [line("a", 2), line("b", 3), line("c", 1), line("d", 9)]
    names = {INHERITED: [line("a", 5)], FULL: rows, RANDOM: rows[:3], "cut off, 4 epochs": rows[1:]}
    arms = inheritance.by_arm([{"sampler": name, "seed": 0, "rows": rows} for name, rows in names.items()])[0]
    kept = {name: [r["params"] for r in arms[name]] for name in arms}
    assert kept == {
        INHERITED: ["a"],
        FULL: ["a", "b", "c", "d"],
        CUT_OFF: ["a", "b"],
        "cut off, and one more": ["a", "b", "c"],
        RANDOM: ["a", "b"],
        "random, and one more": ["a", "b", "c"],
        "cut off, 4 epochs": ["b", "c"],
        "cut off, 4 epochs, and one more": ["b", "c", "d"],
    }


def test_finalists_are_the_best_of_each_architecture() -> None:
    rows = [line("a", validation=0.5), line("b", validation=0.9), line("b", validation=0.8), line("c", validation=0.7)]
    assert list(top(rows, 2)) == ["b", "c"]


def test_the_best_network_so_far_by_what_was_spent() -> None:
    rows = [line("a", 2, 0.5, 0.1), line("b", 2, 0.9, 0.2), line("c", 4, 0.7, 0.9), line("d", 2, 0.95, 0.8)]
    found = dict(zip(inheritance.SHARES.round(3), inheritance.anytime(rows, 10), strict=True))
    assert {share: found[share] for share in (0.1, 0.375, 0.4, 0.8, 0.975, 1.0)} == pytest.approx(
        {0.1: 10, 0.375: 10, 0.4: 20, 0.8: 20, 0.975: 20, 1.0: 80}
    )


def test_the_best_of_a_search_is_cooled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    without, train, starts = searched("--average", "1"), inheritance.train, []

    def watched(network: nn.Module, data: inheritance.Data, *rest: Any) -> float:
        starts.append(inheritance.accuracy(network, data.validation))
        return train(network, data, *rest)

    monkeypatch.setattr(inheritance, "train", watched)
    rows = searched("--average", "1", "--cool-down", "4")
    assert [row["validation"] for row in rows[:-1]] == [row["validation"] for row in without]
    best = max(without, key=lambda row: row["validation"])
    assert rows[-1]["fingerprint"] == best["fingerprint"]
    assert starts[-1] == best["validation"]
    assert rows[-1]["flops"] == pytest.approx(4 * best["flops"])
    assert rows[-1]["validation"] > best["validation"]
    assert inheritance.proposed(rows) == rows[:-1]


def test_the_winner_of_the_finals_is_chosen_by_validation() -> None:
    rows = [
        line("a", validation=0.5, test=0.9),
        line("a", validation=0.7, test=0.8),
        line("b", validation=0.65, test=0.4),
        line("b", validation=0.65, test=0.6),
        line("c", validation=0.9, test=0.1),
    ]
    assert finalist_test(rows, ["a", "b"]) == pytest.approx(0.5)
    assert finalist_test(rows, ["a"]) == pytest.approx(0.85)


def test_each_architecture_is_ranked_once() -> None:
    names = ["a", "b", "c", "a"]
    inherited = [
        line(name, validation=value, predicted=-value, parameters=i)
        for i, (name, value) in enumerate(zip(names, (1, 2, 3, 9), strict=True))
    ]
    full = [line(name, test=value, validation=4 - value) for name, value in zip(names, (1, 2, 3, 0), strict=True)]
    found = rankings({INHERITED: inherited, FULL: full, SHORT: full})
    assert {name: figure[0] for name, figure in found.items()} == pytest.approx(
        {"inherited value": 1, "predicted by the surrogate": -1, "short training": -1, "parameters": 1}
    )


def test_what_a_ranking_says_beyond_the_size() -> None:
    rng = np.random.default_rng(0)
    size, quality = rng.standard_normal((2, 4000))
    lines = [
        line(str(i), validation=v, predicted=p, parameters=s, test=s + q)
        for i, (s, q, v, p) in enumerate(zip(size, quality, 2 * size, size + quality, strict=True))
    ]
    noise = rng.standard_normal(len(size))
    inherited = [row | {"validation": row["parameters"] + n} for row, n in zip(lines, noise, strict=True)]
    found = rankings({INHERITED: inherited, FULL: lines, SHORT: lines})
    assert found["inherited value"][0] > 0.4
    assert abs(found["inherited value"][1]) < 0.05  # the size, and noise
    assert found["predicted by the surrogate"][1] > 0.99
    assert math.isnan(found["parameters"][1])

    # Residuals of ranks are what a partial correlation correlates.
    def ranks(key: str, rows: list[dict[str, Any]]) -> np.ndarray:
        return rankdata([row[key] for row in rows])

    slope = np.column_stack([np.ones(len(lines)), ranks("parameters", lines)])
    left = [
        r - slope @ np.linalg.lstsq(slope, r, rcond=None)[0]
        for r in (ranks("validation", inherited), ranks("test", lines))
    ]
    assert found["inherited value"][1] == pytest.approx(np.corrcoef(left)[0, 1])


@pytest.mark.slow
def test_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs.jsonl"
    inheritance.main([*TINY, "--out", str(out)])
    table = capsys.readouterr().out
    for name in (*inheritance.ARMS, "cut off, 1 epochs", "cut off, 4 epochs", "random, and one more"):
        assert f"\n{name} " in table
    assert "full training, another seed" in table
    # Nothing is trained again, and the same is said.
    before = out.read_text()
    inheritance.main([*TINY, "--out", str(out)])
    assert out.read_text() == before
    assert capsys.readouterr().out == table[table.index("\n1 seeds") :]
    picture = tmp_path / "anytime.html"
    inheritance.main([*TINY, "--out", str(out), "--plot", str(picture)])
    assert all(f'"name":"{name}"' in picture.read_text() for name in (INHERITED, RANDOM, CUT_OFF, "cut off, 4 epochs"))

    e = inheritance.Experiment(
        **{k: v for k, v in vars(inheritance.parse(TINY)).items() if k in inheritance.Experiment.__dataclass_fields__}
    )
    records = list(inheritance.runs.read(out, vars(e)))
    arms = inheritance.by_arm([r for r in records if r["sampler"] != inheritance.FINALS])[0]
    limit = sum(r["flops"] for r in arms[INHERITED])
    assert [r["fingerprint"] for r in arms[INHERITED]] == [r["fingerprint"] for r in arms[SHORT]]
    assert [r["fingerprint"] for r in arms[INHERITED]] == [r["fingerprint"] for r in arms[FULL]]
    assert sum(r["flops"] for r in arms[SHORT]) == limit == sum(r["flops"] for r in arms[FULL]) / 2
    for name in (CUT_OFF, RANDOM):
        assert len(arms[name]) == 1 or sum(r["flops"] for r in arms[name]) <= limit
    assert sum(r["flops"] for r in arms["random, and one more"]) > limit
    assert arms[INHERITED][-1]["inherited epochs"] > 0
    # As many epochs as the search trained allow all of it; those of another length are the first ones, no others.
    assert [r["fingerprint"] for r in arms["cut off, 1 epochs"]] == [r["fingerprint"] for r in arms[SHORT]]
    assert {r["epochs"] for r in arms["cut off, 4 epochs"]} == {4}
    assert len(arms["cut off, 4 epochs"]) == 1
    assert arms["cut off, 4 epochs"][0]["fingerprint"] == arms[SHORT][0]["fingerprint"]


def test_the_average_is_what_is_judged() -> None:
    # Over the last epoch: nothing of the start is left after many of them, and it is not the weights themselves.
    plain, averaged = searched(), searched("--average", "1")
    assert [row["fingerprint"] for row in plain][:2] == [row["fingerprint"] for row in averaged][:2]
    assert [row["validation"] for row in plain] != [row["validation"] for row in averaged]


def test_one_schedule_through_a_line() -> None:
    assert inheritance.in_line(0, 8, 0) == 1
    assert inheritance.in_line(0, 8, 4) == inheritance.in_line(3, 8, 1) == pytest.approx(0.5)
    assert inheritance.in_line(6, 8, 2) == inheritance.in_line(20, 8, 3) == inheritance.LOWEST

    assert [row["validation"] for row in searched("--line-epochs", "3")] != [row["validation"] for row in searched()]


def searched(*options: str) -> list[dict[str, Any]]:
    arguments = vars(inheritance.parse([*TINY, *options]))
    e = inheritance.Experiment(**{k: arguments[k] for k in inheritance.Experiment.__dataclass_fields__})
    rows: list[dict[str, Any]] = inheritance.search(e, INHERITED, 0)["rows"]
    return rows


def test_children_train_longer_for_each_ancestor() -> None:
    rows = searched("--epochs-per-ancestor", "3", "--trials", "12")
    # A line of trainings of 1, 4, 7, ... epochs: what was inherited says how many there were.
    before = {0: 1, 1: 4, 5: 7, 12: 10, 22: 13, 35: 16, 51: 19, 70: 22}
    assert [row["epochs"] for row in rows] == [before[int(row["inherited epochs"])] for row in rows]
    assert max(row["epochs"] for row in rows) > 4
    assert rows[0]["flops"] == pytest.approx(rows[0]["epochs"] * searched()[0]["flops"])
