"""Tables: the same numbers in every form, each with its convention and data."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from trackerlib.bench.conventions import CONVENTIONS, Measure
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


@pytest.fixture
def labelled() -> Scores:
    """Three trackers, four sequences, two attributes that more than one of them carries."""
    errors = {"good-0123abcd": (0, 0, 10, 10), "fair-0123abcd": (0, 10, 10, 10), "poor-0123abcd": (30, 30, 30, 0)}
    labels = [("OCC",), ("OCC", "IV"), ("IV",), ("IV", "lonely")]
    curves = {
        t: {f"s{i}": OTB.score(TRUTH + np.array([e, 0, 0, 0]), TRUTH) for i, e in enumerate(of)}
        for t, of in errors.items()
    }
    return Scores(OTB, "otb100", curves, attributes={f"s{i}": names for i, names in enumerate(labels)})


def test_text_states_convention_data_and_ranks(scores):
    text = tables.render(scores)
    assert text.count("otb convention (OTB MATLAB toolkit v1.0); rendered-test (synthetic), 2 sequences, OPE") == 3
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


def test_attributes_mark_best_and_second_best_in_every_form(labelled):
    table = tables.attribute_table(labelled)
    assert table.header == ("attribute", "good", "fair", "poor")  # best over all first
    occluded = ("OCC (2)", f"{PERFECT:.4f}", f"{(PERFECT + OFF) / 2:.4f}")
    assert table.rows[1][:3] == occluded
    assert table.rows[2][:2] == ("all", f"{(PERFECT + OFF) / 2:.4f}")
    assert (table.places[1, 1], table.places[1, 2]) == (1, 2)
    assert (1, 3) not in table.places
    assert f"{PERFECT:.4f}¹" in str(table)
    assert "¹ best, ² second best" in str(table)
    assert rf"OCC (2) & \textbf{{{PERFECT:.4f}}} & \underline{{{occluded[2]}}}" in table.latex()
    assert f"<b>{PERFECT:.4f}</b>" in table._repr_html_()
    assert tables.render(labelled).count("AUC by attribute") == 1


def test_equal_numbers_share_a_place_and_a_pair_has_no_second(labelled):
    auc, failures = OTB.measure("success_auc"), Measure("failures", "failures", best="low", high=np.inf)
    assert tables._leaders([0.5, 0.50001, 0.4, np.nan], auc) == {0: 1, 1: 1, 2: 2}
    assert tables._leaders([0.5, 0.4], auc) == {0: 1}
    assert tables._leaders([0.5], auc) == {}
    assert tables._leaders([12, 3, 7], failures) == {1: 1, 2: 2}


def test_protocols_stand_side_by_side_under_the_tracker_s_label(labelled):
    spatial = {t.replace("0123", "4567"): of for t, of in labelled.curves.items() if not t.startswith("fair")}
    table = tables.protocol_table([labelled, replace(labelled, curves=spatial, protocol="SRE")])
    assert table.header == ("tracker", "OPE", "SRE")
    assert [row[0] for row in table.rows] == ["good", "fair", "poor"]
    assert table.rows[1][2] == "–"
    assert table.rows[0][1] == table.rows[0][2]
    assert table.caption.endswith("otb convention (OTB MATLAB toolkit v1.0); otb100, 4 sequences")
    with pytest.raises(ValueError, match="a protocol comes twice: OPE, OPE"):
        tables.protocol_table([labelled, labelled])
    with pytest.raises(ValueError, match=r"differ in convention or data: .*otb100.*otb50"):
        tables.protocol_table([labelled, replace(labelled, dataset="otb50", protocol="TRE")])


def test_comparison_gives_interval_and_p_of_the_best_against_each_other(labelled):
    table = tables.comparison_table(labelled)
    assert [row[0] for row in table.rows] == ["good − fair", "good − poor"]
    paired = labelled.paired("good-0123abcd", "fair-0123abcd")
    assert table.rows[0][1:] == (
        f"{(PERFECT - OFF) / 4:.4f} [{paired.low:.3f}, {paired.high:.3f}]",
        f"{paired.p:.4f}",
        "4",
    )
    one = tables.comparison_table(labelled, [("poor-0123abcd", "good-0123abcd")], "precision_20")
    assert one.caption.startswith("Differences in precision at 20 px; otb convention")
    assert one.rows[0][1].startswith("-")


def test_measures_say_themselves_how_they_rank(labelled):
    assert tables.ranked(labelled) == ["good-0123abcd", "fair-0123abcd", "poor-0123abcd"]
    lowest = replace(OTB, measures=tuple(replace(m, best="low") for m in OTB.measures))
    assert tables.ranked(replace(labelled, convention=lowest))[0] == "poor-0123abcd"
    with pytest.raises(ValueError, match="the otb convention has no 'succes_auc'; near: success_auc"):
        tables.sequence_table(labelled, "succes_auc")


def test_html_is_a_page_of_its_own(scores):
    page = tables.render(scores, "html")
    assert page.startswith("<!DOCTYPE html>\n<meta charset='utf-8'>\n<title>otb convention")
    assert page.count("<table>") == page.count("</table>") == 3


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
    with pytest.raises(ValueError, match="no format 'xml'; there are: table, csv, json, latex, html"):
        tables.render(scores, "xml")
