"""JSON, Markdown, chart and the line to cite."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dfine_cli.bench import files
from dfine_cli.bench.budget import Fit
from dfine_cli.bench.files import write_report
from dfine_cli.bench.gpu import UNKNOWN, GpuState
from dfine_cli.bench.markdown import to_markdown
from dfine_cli.bench.report import INSIDE, cite, t4_lines, table, to_json, warnings
from dfine_cli.bench.roofline import Calibration, Estimate
from dfine_cli.bench.timing import Stats
from dfine_cli.errors import DfineError
from tests.unit.bench.conftest import SCORE, make_report, make_row

STAGES = {
    name: Stats.of([value]) for name, value in {"pre": 1.5, "engine": 2.0, "post": 0.5, "total": 4.0}.items()
}
CPU_ROW = {
    "device": "cpu",
    "backend": "fused",
    "precision": "fp32",
    "source": "n",
    "sha256": None,
    "stages": STAGES,
    "readings": (),
}
CALIBRATION = Calibration(2.14, 0.00294, {"n": -0.01, "s": 0.04}, {"n": -0.074, "s": 0.053})
ESTIMATE = Estimate("dfine-n", (384, 640), 3, 4.4, 1.6, {"backbone": 1.0, "decoder": 0.6})


def test_one_line_to_cite_has_all_that_is_needed():
    line = cite(make_row(score=SCORE), make_report())
    assert line == (
        "dfine-n (n.engine, sha256 0123456789ab), tensorrt fp16 81%, fp32 19%, 640x640, batch 1: 2.12 ms mean (p90 2.22, p99 2.24, 2 passes, engine only, "
        "protocol published) on Tesla T4, driver 550.54; dfine 0.1.0, tensorrt 10.4.0; 2026-11-24; AP 0.4280 on "
        "val.json (5000 images)"
    )


def test_the_line_of_a_cpu_names_its_threads_and_the_median():
    line = cite(make_row(**CPU_ROW), make_report(gpu=None, protocol="sustained"))
    assert (
        "dfine-n (random weights), fused" in line
        and "2.12 ms median" in line
        and "on AMD EPYC, 2 threads" in line
        and "torch 2.13.0" in line
    )


def test_on_a_t4_it_stands_beside_the_published_figure():
    (line,) = t4_lines(make_report(make_row()))
    assert line == "dfine-n, tensorrt fp16 81%, fp32 19%, batch 1: 2.12 ms, published 2.12 ms, ratio 1.00"
    row = to_json(make_report(make_row()))["rows"][0]
    assert (row["published_ms"], row["ratio_to_published"]) == (2.12, pytest.approx(1))


@pytest.mark.parametrize("precision", ["fp32 100%", "fp16 70%, int8 25%, fp32 5%", "not told"])
def test_other_conditions_on_a_t4_are_named(precision):
    (line,) = t4_lines(make_report(make_row(precision=precision, batch=4)))
    assert f"not the same conditions (precision: fp16, here {precision}; batch: 1, here 4)" in line


@pytest.mark.parametrize(
    "row", [make_row(size=None), make_row(**CPU_ROW)], ids=["other network", "on the CPU"]
)
def test_on_a_t4_without_a_published_figure(row):
    report = make_report(row)
    assert t4_lines(report) == ["None of the models has a published latency."]
    assert to_json(report)["rows"][0]["ratio_to_published"] is None


@pytest.mark.parametrize(
    ("row", "gpu", "line"),
    [
        (make_row(), "NVIDIA A100", "This is not a T4 but NVIDIA A100"),
        (make_row(**CPU_ROW), None, "This is not a T4 but AMD EPYC"),
        (make_row(), UNKNOWN, "The GPU is not known"),
    ],
    ids=["another GPU", "a CPU", "a GPU that nothing names"],
)
def test_elsewhere_it_says_that_it_is_no_t4(row, gpu, line):
    report = make_report(row, gpu=gpu)
    assert t4_lines(report)[0].startswith(line)
    assert to_json(report)["rows"][0]["published_ms"] is None and to_json(report)["on_t4"] is False


def test_json_is_plain_and_versioned():
    report = make_report(make_row(stages=STAGES, score=SCORE), protocol="burst")
    report = replace(
        report,
        calibration=CALIBRATION,
        estimates=(ESTIMATE,),
        fit=Fit(5.0, {"n": 2.1}, "n"),
        notes=("a note",),
    )
    values = json.loads(json.dumps(to_json(report)))
    assert (values["schema_version"], values["kind"]) == (1, "dfine bench")
    assert values["protocol"]["pause_s"] == 0.2 and values["inside_the_clock"] == INSIDE
    (row,) = values["rows"]
    assert row["engine"]["p50"] == 2.12 and row["stages"]["total"]["p50"] == 4.0
    assert row["score"]["ap"] == 0.428 and row["readings"][0]["temperature_c"] == 60
    assert values["environment"]["gpu"]["name"] == "Tesla T4" and values["environment"]["packages"]["torch"]
    assert values["t4_estimate"]["is_estimate"] is True
    assert values["t4_estimate"]["calibration"]["worst_error"] == 0.074
    assert values["budget"] == {"budget_ms": 5.0, "tried": {"n": 2.1}, "size": "n"}


def test_the_difference_of_ap_is_to_the_first_row_of_the_same_model():
    scores = [SCORE, SCORE._replace(ap=0.4275), None, SCORE._replace(ap=0.3)]
    rows = [make_row(source="n.pt", score=score) for score in scores] + [make_row(source="s.pt", score=SCORE)]
    assert [cells[-1] for cells in table(rows)[1]] == ["-", "-0.0005", "-", "-0.1280", "-"]
    found = [row["ap_difference"] for row in to_json(make_report(*rows))["rows"]]
    assert found == [None, pytest.approx(-0.0005), None, pytest.approx(-0.128), None]


def test_tables_have_a_cell_for_every_column():
    rows = [make_row(**CPU_ROW), make_row(score=SCORE, host_peak_mb=None)]
    header, cells = table(rows)
    assert header[-2:] == ("AP", "AP diff") and "total" in header
    assert {len(row) for row in cells} == {len(header)}
    assert cells[0][-2:] == ("-", "-") and cells[1][-3:] == ("-", "0.4280", "-")
    assert "total" not in table([make_row()])[0]


def test_markdown_says_what_was_measured_and_what_was_not():
    report = replace(
        make_report(make_row(**CPU_ROW), gpu=None, load=3.0, protocol="sustained"),
        calibration=CALIBRATION,
        estimates=(ESTIMATE,),
        fit=Fit(1.0, {"n": 2.12}, None),
    )
    page = to_markdown(report, "chart.png")
    for text in (
        "# Latency on AMD EPYC",
        "protocol **sustained**",
        "> The machine was busy: load 3.0 on 2 CPUs",
        "![latency](chart.png)",
        f"- engine: {INSIDE['engine']}",
        "This is not a T4",
        "no size fits into 1 ms (N 2.12 ms)",
        "Estimated, not measured",
        "N -7.4%, S +5.3% (mean 6.3%, worst 7.4%)",
        "| dfine-n | 384x640 | 3 | 4.40 | 1.60 | 1.00 | 0.60 |",
        "command: `dfine bench n`",
    ):
        assert text in page


def test_markdown_of_an_estimate_alone_claims_no_measurement():
    page = to_markdown(
        replace(make_report(gpu=None, load=9.0), calibration=CALIBRATION, estimates=(ESTIMATE,))
    )
    assert "Estimate for a T4" in page
    assert not {"To cite", "Inside the clock", "busy"} & {
        w for w in ("To cite", "Inside the clock", "busy") if w in page
    }


def test_throttling_is_a_warning_and_in_the_line():
    hot = make_row(readings=(GpuState(585, 5000, 90, 70.0, 1.0, ("power cap",)),))
    report = make_report(hot)
    assert warnings(report) == ["dfine-n, tensorrt: the GPU was slowed down by power cap."]
    assert cite(hot, report).endswith("; throttled: power cap")
    assert warnings(make_report(make_row())) == []


@pytest.mark.parametrize("score", [None, SCORE], ids=["bars", "scatter"])
def test_files_are_written_and_never_over_others(tmp_path, score):
    report = make_report(make_row(score=score), make_row(**CPU_ROW, score=score))
    first, second = (write_report(report, tmp_path / "out") for _ in range(2))
    assert [path.name for path in first] == [f"tesla-t4-2026-11-24.{end}" for end in ("json", "md", "png")]
    assert [path.stem for path in second] == ["tesla-t4-2026-11-24-2"] * 3
    assert json.loads(first[0].read_text())["schema_version"] == 1
    assert first[2].read_bytes().startswith(b"\x89PNG")
    assert "tesla-t4-2026-11-24.png" in first[1].read_text()
    assert len(list((tmp_path / "out").iterdir())) == 6  # nothing half-written is left


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(DfineError, match="out") as caught:
        write_report(make_report(make_row()), tmp_path / "out")
    assert "--out" in caught.value.hint


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def write_chart(report, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_chart", write_chart)
    with pytest.raises(DfineError, match="No space left on device"):
        write_report(make_report(make_row()), tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md"}
