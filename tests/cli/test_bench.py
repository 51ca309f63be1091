"""``dfine bench``: from words to files, and what goes wrong on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfine_cli.bench.protocols import PROTOCOLS
from dfine_cli.bench.runner import BACKENDS, Precision
from dfine_cli.cli import bench
from dfine_cli.cli.app import app

if TYPE_CHECKING:
    from tests.cli.conftest import Run

QUICK = ("--runs", 2, "--warmup", 0, "--threads", 1)


def test_a_size_is_measured_and_reported(run: Run) -> None:
    code, out, err = run("bench", "n", "--input-size", "96", "--device", "cpu", *QUICK)
    assert code == 0, err
    assert (
        "dfine-n  fused" in out
        and "2 passes, engine only, protocol sustained (changed: 0 warm-ups, 2 runs)" in out
    )
    assert "This is not a T4" in out
    assert "T4 ms (estimate)" in out and "Estimated, not measured" in out
    written = sorted(path.suffix for path in Path("bench").iterdir())
    assert written == [".json", ".md", ".png"]
    assert err.count("written: bench/") == 3


def test_a_size_has_no_ap_and_says_so(run: Run, dataset: Path) -> None:
    code, out, err = run("bench", "n", "--data", dataset, "--input-size", "64", "--device", "cpu", *QUICK)
    assert code == 0, err
    assert "warning: No AP of n: a size has random weights." in err and "AP diff" not in out


def test_json_is_the_file_on_stdout(run: Run) -> None:
    words = (
        "bench",
        "n",
        "--backend",
        "eager",
        "--input-size",
        "64,96",
        "--batch",
        "1,2",
        "--out",
        "o",
        "--json",
    )
    code, out, err = run(*words, "--device", "cpu", "--num-classes", 3, *QUICK)
    assert code == 0, err
    printed = json.loads(out)
    files = [Path(name) for name in printed.pop("files")]
    assert json.loads(files[0].read_text()) == printed
    assert [
        (row["backend"], row["batch"], row["input_size"], row["num_classes"]) for row in printed["rows"]
    ] == [
        ("eager", 1, [64, 96], 3),
        ("eager", 2, [64, 96], 3),
    ]
    assert set(printed["rows"][0]["stages"]) == {"pre", "engine", "post", "total"}
    assert printed["environment"]["threads"] == 1 and printed["environment"]["gpu"] is None


def test_an_estimate_measures_nothing(run: Run) -> None:
    code, out, err = run("bench", "n", "s", "--estimate", "--input-size", "320", "--json")
    assert code == 0, err
    printed = json.loads(out)
    assert printed["rows"] == [] and printed["files"] == [] and not Path("bench").exists()
    small, large = (model["latency_ms"] for model in printed["t4_estimate"]["models"])
    assert 0 < small < large < 3.49  # below the published latency of s at 640


def test_the_largest_size_for_a_budget_on_a_t4(run: Run) -> None:
    code, out, err = run("bench", "--budget", "5ms", "--estimate")
    assert code == 0, err
    assert out.splitlines()[-1].startswith("S is the largest size that fits into 5 ms (N 2.")


def test_a_budget_that_nothing_meets_is_a_failed_check(run: Run) -> None:
    code, out, err = run("bench", "--budget", "0.001us", "--input-size", "64", "--device", "cpu", *QUICK)
    assert code == 4
    assert "dfine-n  fused" in out  # the table shows by how much
    assert "error: no size fits into 1e-06 ms (N " in err and "hint: try a smaller --input-size" in err


def test_a_failed_command_prints_no_json(run: Run) -> None:
    code, out, err = run("bench", "--budget", "0.001us", "--estimate", "--json")
    assert (code, out) == (4, "") and "error: no size fits into 1e-06 ms (N " in err


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ((), "give models to measure, or --budget", "dfine bench n s"),
        (("n", "--budget", "5ms"), "give models to measure, or --budget", "dfine bench n s"),
        (("q",), "q: no such file, and no size (n, s, m, l, x)", "give a checkpoint"),
        (("n.txt",), "n.txt: no backend runs a `.txt` file", ".pt"),
        (("--budget", "fast"), "--budget fast: not a time", "for example 5ms"),
        (
            ("--budget", "5ms", "--batch", "1,4"),
            "--budget takes one --backend and one --batch",
            "for example",
        ),
        (("n", "--input-size", "100"), "not a multiple of 32", "nearest legal sizes"),
        (("n", "--batch", "0"), "--batch 0: must be numbers of images", "for example"),
        (("n", "--runs", "0"), "--runs at least 1", "the protocol sustained"),
        (("n", "--backend", "tpu"), "unknown backend 'tpu'", "fused"),
        (("n", "--protocol", "quick"), "--protocol", "dfine bench --help"),
        (("n", "--estimate", "--batch", "8"), "--batch does not go with --estimate", "leave out --batch"),
        (("n", "--protocol", "burst", "--estimate"), "--protocol does not go with --estimate", "--estimate"),
        (("run",), "run: no weights/best.pt in this folder", ""),
    ],
)
def test_wrong_usage(run: Run, words: tuple[str, ...], message: str, hint: str) -> None:
    Path("n.txt").touch()
    Path("run").mkdir()
    code, out, err = run("bench", *words)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-2 if "\nhint:" in err else -1] and hint in err.splitlines()[-1]


@pytest.mark.parametrize("name", ["bad.pt", "bad.pth"])
def test_a_file_that_cannot_be_read(run: Run, name: str) -> None:
    Path(name).write_bytes(b"no model")
    code, out, err = run("bench", name, *QUICK)
    assert (code, out) == (4, "")
    assert f"error: {name}: " in err and "hint: " in err and not Path("bench").exists()


def test_a_device_that_is_not_there(run: Run) -> None:
    code, _, err = run("bench", "n", "--device", "mps", *QUICK)
    assert code == 3 and "hint: use --device cpu" in err


def test_the_options_name_what_there_is() -> None:
    import typer

    assert [kind.value for kind in bench.Protocol] == list(PROTOCOLS)
    assert [kind.value for kind in bench.Precision] == list(Precision.__args__)  # type: ignore[attr-defined]
    command = typer.main.get_command(app).commands["bench"]  # type: ignore[attr-defined]
    assert set(bench.MEASURING) <= {p.name for p in command.params}
    assert {p.name for p in command.params} - set(bench.MEASURING) == {
        "models", "budget", "input_size", "num_classes", "estimate", "as_json",
    }  # fmt: skip
    (help_text,) = [p.help for p in command.params if p.name == "backend"]
    assert help_text.rstrip(".").partition(": ")[2].split(", ") == list(BACKENDS)
