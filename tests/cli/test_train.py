"""``dfine train``: resuming, changed runs, damaged files, places that cannot be written, signals and pipes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Run


@pytest.fixture
def toy(trained: Path) -> Path:
    """A copy of the finished run beside its data, so that it can be spoilt."""
    number = sum(p.name.startswith("copy") for p in trained.iterdir())
    return shutil.copytree(trained / "toy", trained / f"copy{number}")


def two_lines(err: str) -> str:
    """The error in what a command said at its end."""
    error, hint = err.splitlines()[-2:]
    assert error.startswith("error: ") and hint.startswith("hint: ")
    assert "Traceback" not in err and "bug in dfine" not in err
    return error


def test_a_finished_run_says_so_and_keeps_its_numbers(run: Run, toy: Path) -> None:
    before = (toy / "metrics.jsonl").read_text()
    code, out, err = run("train", "--resume", toy)
    assert code == 0 and "this run is finished" in err and f"run: {toy}" in out
    assert (toy / "metrics.jsonl").read_text() == before


def test_a_run_is_not_said_to_be_shorter_than_it_is(run: Run, toy: Path) -> None:
    assert run("train", "--resume", toy, "--epochs", 3, "--allow-changes").code == 0
    before = (toy / "recipe.yaml").read_text()
    code, _, err = run("train", "--resume", toy, "--epochs", 2, "--allow-changes")
    assert code == 2 and "3 epochs are done, and 2 are asked for" in two_lines(err)
    assert (toy / "recipe.yaml").read_text() == before


def test_a_finished_run_keeps_the_recipe_it_was_trained_with(run: Run, toy: Path) -> None:
    before = (toy / "recipe.yaml").read_text()
    code, _, err = run("train", "--resume", toy, "--set", "optim.lr=0.5", "--allow-changes")
    assert code == 0 and "this run is finished" in err
    assert (toy / "recipe.yaml").read_text() == before


def test_weights_that_are_gone_are_not_named(run: Run, toy: Path) -> None:
    (toy / "weights" / "best.pt").unlink()
    code, out, err = run("train", "--resume", toy)
    assert code == 0 and "best.pt" not in out
    following = shlex.split(err.split("next: ")[1])
    assert following[:2] == ["dfine", "eval"]
    assert run(*following[1:], "--workers", 0).code == 0


def test_a_run_that_diverges_ends_before_its_weights_are_kept(run: Run, toy: Path) -> None:
    words = ("--epochs", 6, "--allow-changes", "--set", "optim.lr=1e30", "--set", "schedule.warmup_share=0")
    code, out, err = run("train", "--resume", toy, *words, "--set", "schedule.curve=constant")
    assert (code, out) == (1, ""), err
    assert "the run has diverged in epoch " in two_lines(err)
    assert "lower optim.lr, which is 1e+30" in err
    kept = torch.load(toy / "weights" / "last.pt", weights_only=True)
    assert all(v.isfinite().all() for v in kept["model"].values() if v.is_floating_point())


def test_start_weights_that_are_no_numbers_are_refused(run: Run, toy: Path) -> None:
    weights = torch.load(toy / "weights" / "best.pt", weights_only=True)
    which = weights["best_weights"]
    next(iter(weights[which].values())).fill_(torch.nan)
    torch.save(weights, "nan.pt")
    words = ("train", toy / "recipe.yaml", "--set", "start.weights=nan.pt", "--dry-run")
    code, _, err = run(*words)
    assert code == 4 and "nan.pt: the weights are damaged" in two_lines(err)
    code, _, err = run("zoo", "verify", "nan.pt")
    assert code == 4 and "are finite numbers" in two_lines(err)


def test_allowed_changes_stay_with_the_run(run: Run, toy: Path) -> None:
    code, _, err = run("train", "--resume", toy, "--epochs", 2)
    assert code == 2 and "would change schedule.epochs" in two_lines(err)
    code, _, err = run("train", "--resume", toy, "--epochs", 2, "--allow-changes")
    assert code == 0, err
    assert [json.loads(row)["epoch"] for row in (toy / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert "\n  epochs: 2 " in (toy / "recipe.yaml").read_text()


@pytest.mark.parametrize("change", ["size=s", "model.bins=16", "optim.groups=published"])
def test_what_does_not_fit_the_checkpoint_is_refused(run: Run, toy: Path, change: str) -> None:
    before = {p: p.read_bytes() for p in toy.rglob("*") if p.is_file()}
    code, out, err = run("train", "--resume", toy, "--allow-changes", "--epochs", 2, "--set", change)
    assert (code, out) == (4, "") and "last.pt does not fit this run" in two_lines(err)
    assert {p: p.read_bytes() for p in toy.rglob("*") if p.is_file()} == before


def test_other_classes_are_named(run: Run, toy: Path, tmp_path: Path) -> None:
    annotations = toy.parent / "data" / "annotations"
    for name in ("train", "val"):
        text = (annotations / f"instances_{name}.json").read_text()
        (tmp_path / f"{name}.json").write_text(text.replace('"disc"', '"blob"'))
    words = [f"--set=data.{name}_json={tmp_path / name}.json" for name in ("train", "val")]
    code, _, err = run("train", "--resume", toy, "--allow-changes", *words)
    assert code == 4
    assert "was trained on the classes disc, " in two_lines(err) and "now has blob, " in err


def test_a_last_line_cut_off_by_a_crash_is_made_anew(run: Run, toy: Path) -> None:
    metrics = toy / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"epoch": 2, "lo')
    code, _, err = run("train", "--resume", toy, "--epochs", 2, "--allow-changes")
    assert code == 0, err
    assert [json.loads(row)["epoch"] for row in metrics.read_text().splitlines()] == [1, 2]
    metrics.write_text("damaged\n" + metrics.read_text())
    code, _, err = run("train", "--resume", toy)
    assert code == 4 and "metrics.jsonl:1: damaged" in two_lines(err)


@pytest.mark.parametrize(("keep", "told"), [(0.5, "cut off"), (0.0, "not a checkpoint")])
def test_a_damaged_checkpoint_is_named(run: Run, toy: Path, keep: float, told: str) -> None:
    last = toy / "weights" / "last.pt"
    content = last.read_bytes()
    last.write_bytes(content[: int(keep * len(content))])
    code, _, err = run("train", "--resume", toy)
    assert code == 4 and told in two_lines(err)


def test_weights_alone_are_not_resumed(run: Run, toy: Path) -> None:
    shutil.copy(toy / "weights" / "best.pt", toy / "weights" / "last.pt")
    code, _, err = run("train", "--resume", toy)
    assert code == 4 and "holds weights only" in two_lines(err)


def start(
    words: list[object], before: str = "", after: str = "", stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """``dfine`` in a shell of its own, in a process group of its own."""
    command = f"{before} exec {sys.executable} -m dfine_cli {' '.join(map(str, words))} {after}"
    return subprocess.Popen(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def test_a_full_disk_leaves_no_half_written_run(toy: Path) -> None:
    name = f"full_{toy.name}"
    words = ["train", toy / "recipe.yaml", "--name", name, "--set", f"run.folder={toy.parent}"]
    small = start(words, before="ulimit -f 2;")  # kilobytes: too small for the recipe
    _, err = small.communicate()
    assert small.returncode == 1 and "nothing can be written there" in two_lines(err)
    assert not (toy.parent / name).exists()
    larger = start(words, before="ulimit -f 4000;")  # too small for the weights
    _, err = larger.communicate()
    assert larger.returncode == 1 and two_lines(err).endswith("best.pt: File too large")
    assert list((toy.parent / name / "weights").iterdir()) == []


def run_words(toy: Path) -> list[object]:
    """A long run with a worker."""
    settings = {"run.folder": toy, "evaluation.every": 2000, "data.workers": 1, "schedule.epochs": 2000}
    return ["train", toy / "recipe.yaml", *(f"--set={key}={value}" for key, value in settings.items())]


def started_run(toy: Path, before: str = "") -> subprocess.Popen[str]:
    """Such a run in a process group of its own, past its second epoch."""
    process = start(run_words(toy), before=before)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.lstrip().startswith("2 "):  # the row of the second epoch
            return process
    pytest.fail("the run ended: " + "".join(said))


def assert_saved(process: subprocess.Popen[str]) -> str:
    """What a run said that was asked to end: it saved, left with 130, and no process of it is left."""
    out, err = process.communicate()
    assert (process.returncode, out) == (130, ""), err
    assert "everything is saved" in two_lines(err)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return err


SENT = {
    "Ctrl-C": (os.killpg, [signal.SIGINT]),  # a terminal sends it to the whole group
    "kill": (os.kill, [signal.SIGTERM]),
    "a scheduler": (os.killpg, [signal.SIGTERM]),  # so do supervisors of services and containers
    "timeout": (
        os.killpg,
        [signal.SIGTERM, signal.SIGTERM],
    ),  # to its child, then to the group with the child
}


@pytest.mark.parametrize(("send", "signals"), SENT.values(), ids=SENT)
def test_a_signal_saves_the_run_and_ends_its_workers(
    run: Run, toy: Path, send: Callable[[int, int], None], signals: list[signal.Signals]
) -> None:
    process = started_run(toy)
    for number in signals:
        send(process.pid, number)
    err = assert_saved(process)
    folder = Path(err.split("--resume ")[-1].strip())
    saved = torch.load(folder / "weights" / "last.pt", weights_only=True)["counters"]
    assert f"stopped after step {saved['step']} of 2000" in err and saved["step"] >= 2
    words = ["--resume", folder, "--epochs", saved["epoch"] + 1, "--allow-changes", "--workers", 0]
    code, _, err = run("train", *words)
    assert code == 0, err
    assert (
        torch.load(folder / "weights" / "last.pt", weights_only=True)["counters"]["epoch"]
        == saved["epoch"] + 1
    )


def test_a_second_ctrl_c_ends_at_once(toy: Path) -> None:
    process = started_run(toy)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "error: " in err and "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_terminal_that_is_closed_saves_the_run(toy: Path) -> None:
    ours, theirs = os.openpty()
    process = start(run_words(toy), stderr=theirs)
    os.close(theirs)
    seen = b""
    while not re.search(rb"[\nK] +2  ", seen):
        seen += os.read(ours, 4096)
    os.close(ours)  # from here on, writing there is an error
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate()
    assert process.returncode == 130
    assert (toy / "toy" / "weights" / "last.pt").is_file() and not list(toy.rglob("*.part"))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_nohup_keeps_a_run_going(toy: Path) -> None:
    process = started_run(toy, before="trap '' HUP;")
    os.killpg(process.pid, signal.SIGHUP)
    assert process.stderr is not None
    assert any(line.lstrip().startswith("5 ") for line in process.stderr)
    os.killpg(process.pid, signal.SIGTERM)
    assert_saved(process)


@pytest.mark.parametrize(
    ("after", "code"),
    [("| head -1", 0), (">&-", 0), ("2>&-", 0), (">/dev/full", 1)],
    ids=["pipe closed early", "no stdout", "no stderr", "full device"],
)
def test_streams_that_end_early(toy: Path, after: str, code: int) -> None:
    process = start(["eval", toy, "--workers", 0, "--device", "cpu"], after=after)
    _, err = process.communicate()
    assert process.returncode == code and "Traceback" not in err and "Exception" not in err
    if after == ">/dev/full":
        assert "No space left" in err
