"""launch/compare-answers: two replays agree, or it says where they do not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from house import ROOT


def answers(count: int = 2000) -> list[dict[str, Any]]:
    modality = {"name": "iq", "mask": 1.0, "reason": "", "weight": 0.25, "class_id": 1, "capture_ns": 5}
    answer = {"capture_ns": 5, "label": "tank", "class_id": 1, "probs": [0.25, 0.75], "modalities": [modality]}
    return [{**answer, "sequence": n, "modalities": [dict(modality)], "probs": [0.25, 0.75]} for n in range(count)]


def run(folder: Path, here: list[dict[str, Any]], there: list[dict[str, Any]]) -> tuple[int, dict[str, Any], str]:
    paths = [folder / "here.jsonl", folder / "there.jsonl"]
    for path, lines in zip(paths, (here, there), strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, ROOT / "launch" / "compare-answers", *paths, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) if done.returncode < 2 else {}, done.stdout


def test_numbers_within_the_tolerance_agree_and_the_largest_difference_is_told(tmp_path: Path) -> None:
    there = answers()
    there[7]["probs"] = [0.2495, 0.7505]
    code, figures, text = run(tmp_path, answers(), there)
    assert (code, figures["agrees"], figures["label_share"]) == (0, True, 1.0)
    assert figures["largest_difference"] == pytest.approx(5e-4)
    assert "answer 8, probs[0]: 0.25 and 0.2495" in text or "answer 8, probs[1]: 0.75 and 0.7505" in text


@pytest.mark.parametrize("value", [0.2520, float("nan"), float("inf")])
def test_a_number_beyond_the_tolerance_does_not_agree(tmp_path: Path, value: float) -> None:
    there = answers()
    there[7]["modalities"][0]["weight"] = value
    code, figures, text = run(tmp_path, answers(), there)
    assert (code, figures["agrees"], figures["unequal"]) == (1, False, 0)
    assert "answer 8, modalities[0], weight: 0.25" in text


@pytest.mark.parametrize(("flipped", "expected"), [(2, 0), (3, 1)])
def test_another_label_is_let_go_in_one_answer_of_a_thousand(tmp_path: Path, flipped: int, expected: int) -> None:
    there = answers()
    for answer in there[:flipped]:
        answer |= {"label": "tower", "class_id": 0}
    code, figures, _ = run(tmp_path, answers(), there)
    assert code == expected
    assert figures["label_share"] == 1 - flipped / 2000


@pytest.mark.parametrize(("key", "value"), [("mask", 0), ("reason", "frozen"), ("capture_ns", 6)])
def test_times_masks_and_reasons_must_be_the_same(tmp_path: Path, key: str, value: Any) -> None:
    there = answers()
    there[0]["modalities"][0][key] = value
    code, figures, text = run(tmp_path, answers(), there)
    assert (code, figures["unequal"]) == (1, 1)
    assert f"answer 1, modalities[0], {key}: " in text


def test_a_replay_that_ends_early_does_not_agree(tmp_path: Path) -> None:
    code, _, text = run(tmp_path, answers(), answers(1999))
    assert code == 1
    assert "number of answers: 2000 and 1999" in text


@pytest.mark.parametrize("text", ["", "{", '{"label": "tank"}\n[]\n'])
def test_a_file_that_holds_no_answers_is_refused(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(text)
    command = [sys.executable, ROOT / "launch" / "compare-answers", broken, broken]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert f"{broken}: expected" in done.stderr
