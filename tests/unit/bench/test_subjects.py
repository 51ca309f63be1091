"""Words of the command line: models, budgets, batches, backends."""

from __future__ import annotations

import pytest

from dfine_cli.bench.budget import fit_budget
from dfine_cli.bench.published import AP, LATENCY_MS, differences, is_t4
from dfine_cli.bench.runner import BACKENDS, SIZE, Subject, backends_for
from dfine_cli.bench.subjects import find_subject, parse_batches, parse_budget
from dfine_cli.errors import UsageError
from dfine_cli.model.sizes import SIZES

FRESH = Subject("s", None, "s")


def test_a_size_a_file_and_a_run(tmp_path):
    weights = tmp_path / "weights" / "best.pt"
    weights.parent.mkdir()
    weights.touch()
    assert find_subject("N") == ("N", None, "n")
    assert find_subject(str(weights)).path == weights
    assert find_subject(str(tmp_path)).kind == ".pt"
    assert find_subject("n").kind == SIZE


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("q", "q: no such file, and no size (n, s, m, l, x)", "give a checkpoint"),
        ("mode1.onnx", "mode1.onnx: no such file", "did you mean model.onnx?"),
        ("s/obj2coco", "weights are not measured", "`s`"),
        ("nowhere/model.onnx", "no such file", "give a checkpoint"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, text, message, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UsageError) as caught:
        find_subject(text)
    assert message in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("5ms", 5), ("5", 5), ("0.02s", 20), (" 2.5 ms ", 2.5), ("800us", 0.8), (".5MS", 0.5)],
)
def test_a_budget(text, milliseconds):
    assert parse_budget(text) == pytest.approx(milliseconds)


@pytest.mark.parametrize("text", ["", "fast", "0ms", "-5ms", "5 min", "5,5ms", "nan", "1e3"])
def test_a_bad_budget(text):
    with pytest.raises(UsageError, match="not a time"):
        parse_budget(text)


def test_batches():
    assert parse_batches("1, 4,16,4") == (1, 4, 16)


@pytest.mark.parametrize("text", ["", "0", "1,,2", "two", "-1"])
def test_bad_batches(text):
    with pytest.raises(UsageError, match="must be numbers of images"):
        parse_batches(text)


def test_backends_by_kind(tmp_path):
    assert backends_for(FRESH, []) == ["fused"]
    assert backends_for(FRESH, ["eager", "compiled"]) == ["eager", "compiled"]


@pytest.mark.parametrize(
    ("subject", "names", "message"),
    [
        (FRESH, ["tpu"], "unknown backend 'tpu'"),
    ],
)
def test_no_backend(subject, names, message):
    with pytest.raises(UsageError, match=message):
        backends_for(subject, names)


def test_a_kind_that_nothing_runs(tmp_path):
    with pytest.raises(UsageError, match=r"a\.txt: no backend runs a `\.txt` file") as caught:
        backends_for(Subject("a.txt", tmp_path / "a.txt", None), [])
    assert ".pt" in caught.value.hint and SIZE not in caught.value.hint


def test_every_backend_says_what_it_is():
    assert all(row.meaning and row.kinds for row in BACKENDS.values())


TIMES = {"n": 2.0, "s": 3.5, "m": 5.6, "l": 8.0, "x": 13.0}


@pytest.mark.parametrize(
    ("budget", "size", "tried"),
    [(5.0, "s", "nsm"), (3.5, "s", "nsm"), (20.0, "x", "nsmlx"), (1.0, None, "n")],
)
def test_the_largest_size_that_fits(budget, size, tried):
    fit = fit_budget(budget, TIMES.__getitem__)
    assert fit.size == size and "".join(fit.tried) == tried


def test_published_figures_are_there_for_every_size():
    assert list(LATENCY_MS) == list(AP) == list(SIZES)
    assert (LATENCY_MS["n"], LATENCY_MS["x"], AP["m"]) == (2.12, 12.89, 52.3)


@pytest.mark.parametrize(
    ("name", "found"),
    [("Tesla T4", True), ("NVIDIA T4", True), ("NVIDIA T400", False), ("NVIDIA T4G", False), (None, False)],
)
def test_which_gpu_is_a_t4(name, found):
    assert is_t4(name) is found


def test_differences_to_the_published_conditions():
    ours = {
        "backend": "tensorrt",
        "precision": "fp16",
        "input size": "640x640",
        "batch": "1",
        "protocol": "published",
    }
    assert differences(ours) == []
    assert differences({**ours, "batch": "4"}) == ["batch: 1, here 4"]
