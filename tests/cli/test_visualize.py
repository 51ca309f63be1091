"""``dfine visualize``: what goes in, what comes out."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_eval_explained import good, run_folder

__all__ = ["good", "run_folder"]


def test_a_results_file_as_pictures_and_as_a_page(
    run: Run, dataset: Path, good: Path, tmp_path: Path
) -> None:
    code, out, err = run("visualize", good, dataset)
    assert code == 0, err
    assert out == "pictures: 10 pictures\n" and len(list((tmp_path / "pictures").iterdir())) == 10
    assert "the best F1 on this data" in err
    code, out, _ = run("visualize", good, dataset, "--to", "html", "--out", tmp_path / "page", "--json")
    content = json.loads(out)
    assert code == 0 and content["files"] == [str(tmp_path / "page" / "index.html")]
    assert content["threshold"] == pytest.approx(0.45) and content["unread"] == 0


def test_a_run_uses_the_threshold_that_an_evaluation_stored(
    run: Run, dataset: Path, run_folder: Path
) -> None:
    before = json.loads(run("visualize", run_folder, dataset / "val", "--workers", 0, "--json").out)
    assert (before["threshold"], before["images"]) == (0.4, 10)
    assert run("eval", run_folder, "--workers", 0).code == 0
    after = json.loads(run("visualize", run_folder, dataset / "val", "--workers", 0, "--json").out)
    assert after["threshold"] == pytest.approx(0.3) and "stored in the checkpoint" in after["threshold_is"]
    own = json.loads(run("visualize", run_folder, "--workers", 0, "--threshold", 0.7, "--json").out)
    assert (own["threshold"], own["threshold_is"], own["images"]) == (0.7, "given", 10)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["GOOD"], "which data"), (["gone.pt", "x"], "no such file"), (["RUN", "empty"], "no images")],
)
def test_wrong_words(
    run: Run, good: Path, run_folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run("visualize", *({"GOOD": good, "RUN": run_folder}.get(word, word) for word in words))
    assert outcome.code == 2 and message in outcome.err and "hint:" in outcome.err
