"""Tables: the same numbers in every form, each with its convention and data."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from trackerlib.bench.conventions import CONVENTIONS
from trackerlib.bench.score import Scores
from trackerlib.show import tables

OTB = CONVENTIONS["otb"]
TRUTH = np.tile([11.0, 11, 40, 40], (20, 1))
PERFECT, OFF = 20 / 21, (12 * 19 + 20) / 20 / 21  # 10 pixels off: IoU 0.6, above 0 ... 0.55, but in frame one


@pytest.fixture
def scores() -> Scores:
    def curves(*errors):
        return {f"Seq_{i}": OTB.score(TRUTH + np.array([e, 0, 0, 0]), TRUTH) for i, e in enumerate(errors)}

    runs = {"off-0123abcd": curves(10, 10), "mixed-89abcdef": curves(0, 10)}
    return Scores(OTB, "rendered-test", runs, {"mixed-89abcdef": frozenset({"Seq_0"})})


def test_text_states_convention_data_and_ranks(scores):
    text = tables.render(scores)
    assert text.count("otb convention (OTB MATLAB toolkit v1.0); rendered-test (synthetic), 2 sequences") == 3
    lines = [line.split() for line in text.splitlines()]
    starts = [line[0] for line in lines[4:7]]
    assert starts == ["mixed", "mixed,", "off"]
    assert lines[4][1] == f"{(PERFECT + OFF) / 2:.4f}"
    assert lines[5][1:3] == ["unseen", f"{OFF:.4f}"]


def test_sequences_seen_in_training_are_marked(scores):
    table = tables.sequence_table(scores)
    assert table.header == ("sequence", "off", "mixed")
    assert table.rows == (
        ("Seq_0", f"{OFF:.4f}", f"{PERFECT:.4f}*"),
        ("Seq_1", f"{OFF:.4f}", f"{OFF:.4f}"),
        ("mean", f"{OFF:.4f}", f"{(PERFECT + OFF) / 2:.4f}"),
        ("mean, unseen", f"{OFF:.4f}", f"{OFF:.4f}"),
    )
    assert table.note == "* the weights saw this sequence in training"
    precision = tables.sequence_table(scores, "precision_20")
    assert {cell for row in precision.rows for cell in row[1:]} == {"1.0000", "1.0000*"}


def test_nothing_seen_nothing_marked(scores):
    plain = Scores(OTB, "otb100", scores.curves)
    assert "*" not in tables.render(plain)
    assert "unseen" not in tables.render(plain)
    assert "synthetic" not in tables.render(plain)


def test_json_is_the_object_that_others_rely_on(scores):
    value = json.loads(tables.render(scores, "json"))
    assert value["convention"] == "otb"
    assert value["dataset"] == "rendered-test"
    of = value["trackers"]["mixed-89abcdef"]
    assert of["mean"]["success_auc"] == pytest.approx((PERFECT + OFF) / 2)
    assert of["sequences"]["Seq_0"]["precision_20"] == 1.0


def test_csv_reads_back(scores):
    frame = pd.read_csv(io.StringIO(tables.render(scores, "csv")))
    assert set(frame.convention) == {"otb"}
    assert set(frame.dataset) == {"rendered-test"}
    auc = frame[frame.metric == "success_auc"].set_index(["tracker", "sequence"]).value
    assert auc["mixed-89abcdef", "Seq_0"] == pytest.approx(PERFECT)
    assert auc["mixed-89abcdef", "(mean)"] == pytest.approx((PERFECT + OFF) / 2)
    assert auc["mixed-89abcdef", "(mean, unseen)"] == pytest.approx(OFF)
    assert ("off-0123abcd", "(mean, unseen)") not in auc


def test_latex_is_booktabs_with_names_escaped(scores):
    text = tables.render(scores, "latex")
    assert r"\toprule" in text
    assert rf"Seq\_0 & {OFF:.4f} & {PERFECT:.4f}* \\" in text
    assert "Seq_" not in text
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 3


def test_latex_escapes_every_special_character():
    assert tables._escaped(r"a_b&c%d$e#f{g}h~i^j\k") == (
        r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k"
    )


def test_notebook_table_escapes_names():
    shown = tables.Table("<caption>", ("name", "n"), (("<script>", "1"),), "a < b")._repr_html_()
    assert "<td style='text-align:left'>&lt;script&gt;</td><td style='text-align:right'>1</td>" in shown
    assert "&lt;caption&gt;" in shown
    assert "a &lt; b" in shown


def test_names_lose_their_key_only_where_they_stay_distinct():
    runs = ["siamfc-0123abcd", "siamfc-3s-0123abcd", "siamfc-3s-4567cdef", "KCF"]
    assert list(tables.tracker_labels(runs).values()) == ["siamfc", "siamfc-3s-0123abcd", "siamfc-3s-4567cdef", "KCF"]


def test_unknown_format_is_named(scores):
    with pytest.raises(ValueError, match="no format 'xml'; there are: table, csv, json, latex"):
        tables.render(scores, "xml")
