"""Claims: the register is whole, and verdicts are computed as the register's rules say."""

import csv
import json
import math
from collections import Counter

import numpy as np
import pytest

from trackerlib import boxes as B
from trackerlib import claims, notebook
from trackerlib.claims import VERDICTS, Claim, verdict
from trackerlib.data import Dataset, Sequence, load_dataset
from trackerlib.data.sequence import NoFrames
from trackerlib.provenance import sha256

BENCHMARKS = {"abc": "OTB-2013 (51)"}


def claim(kind="own", value="0.608") -> Claim:
    return Claim("p.x", kind, "p", "Figure 1", "OTB-2013 (51)", "OPE", "T", "success_AUC", value, "printed", "")


def record(low, high, digest="abc", seen=0) -> dict:
    return {"value": (low + high) / 2, "n": 51, "seen": seen, "interval": [low, high], "dataset_digest": digest}


@pytest.mark.parametrize(
    ("of", "measured", "expected"),
    [
        (claim(), None, "not run"),
        (claim(), record(0.60, 0.62, digest="rendered"), "not comparable"),
        (claim(), record(0.60, 0.62), "reproduced"),
        (claim(), record(0.608, 0.7), "reproduced"),
        (claim(), record(0.609, 0.7), "contradicted"),
        (claim(value=""), record(0.6, 0.7), "no number"),
        (claim(value="<1*"), None, "no number"),
        (claim("ordering", ">0"), record(0.01, 0.02), "reproduced"),
        (claim("ordering", ">0"), record(-0.02, -0.01), "contradicted"),
        (claim("ordering", ">0"), record(-0.01, 0.02), "undecided"),
        (claim("ordering", ">0"), record(0.01, 0.02, digest=None), "not comparable"),
        (claim(), record(0.60, 0.62, seen=3), "not comparable"),
        (claim(), record(math.nan, math.nan), "undecided"),
        (claim("ordering", ">0"), record(0.01, math.inf), "undecided"),
    ],
)
def test_a_verdict_follows_from_interval_and_digest(of, measured, expected):
    assert expected in VERDICTS
    assert verdict(of, measured, BENCHMARKS) == expected


@pytest.mark.real
def test_the_register_has_every_reported_number(shared):
    with open(shared / "papers/reported_numbers.csv", newline="") as f:
        reported = list(csv.DictReader(f))
    papers = {"000": "siamemory", "001": "dsiam", "002": "gstp", "003": "siamfc", "004": "rolo"}
    spell = {"OTB-2013": "OTB-2013 (51)"}
    wanted = Counter(
        (papers[r["paper"][:3]], spell.get(r["dataset"], r["dataset"]), r["metric"], r["value"], r["source"])
        for r in reported
    )
    register = [c for c in claims.load_claims().values() if c.kind != "ordering"]
    held = Counter((c.paper, c.dataset, c.metric, c.value, c.provenance) for c in register)
    assert wanted - held == Counter()
    added = [c for c in register if (c.paper, c.dataset, c.metric, c.value, c.provenance) in held - wanted]
    assert {c.paper for c in added} == {"dsiam"}
    numbers = {c.id for c in added if c.number is not None}  # the others are figures that print none
    assert all(id.startswith("dsiam.fig4.conv5.") or id.endswith(".fps") for id in numbers)


def test_well_known_claims_stand_in_the_register():
    register = claims.load_claims()
    assert register["siamfc.table2.siamfc-3s.expected_overlap"].number == 0.2889
    assert register["dsiam.fig6.dsiamm.success_auc"].provenance == "derived"
    assert register["rolo.table1.woman.rolo.aos"].number == 0.649
    assert register["gstp.fig4.gstp.success_auc"].number == 0.557
    assert register["dsiam.fig7.bc.hcf-over-dsiamm"].tracker == "HCF > DSiamM"
    assert all(c.value == ">0" and " > " in c.tracker for c in register.values() if c.kind == "ordering")


def test_an_ordering_agrees_with_the_numbers_that_the_paper_gives_for_both():
    register = claims.load_claims().values()
    also = {("dsiam", "SiamFC_3s"): "SiamFC"}  # the name its orderings use
    names = {c.id: also.get((c.paper, c.tracker), c.tracker) for c in register}
    numbers = {(c.paper, c.dataset, c.metric, names[c.id]): c.number for c in register if c.number is not None}
    found = []
    for c in register:
        sides = [numbers.get((c.paper, c.dataset, c.metric, tracker)) for tracker in c.tracker.split(" > ")]
        if c.kind == "ordering" and None not in sides:
            assert sides[0] > sides[1], c.id
            found.append(c.id)
    assert {"dsiam.fig6.dsiamm-over-dsiam", "dsiam.fig8.dsiamm-over-dsiam"} <= set(found)
    assert sum(name.startswith("dsiam.table1.") for name in found) == 16


def test_every_result_of_dsiam_has_a_row():
    places = {c.place for c in claims.load_claims().values() if c.paper == "dsiam"}
    assert places >= {f"Figure {n}" for n in (1, 4, 6, 7, 8, 9, 10)} | {"Table 1", "Section 3.6", "Section 4.2"}


@pytest.mark.real
def test_the_registered_digest_is_that_of_the_published_annotations(shared):
    registered = {name: digest for digest, name in claims.load_benchmarks().items()}
    assert load_dataset("otb2013", shared / "data/published/otb100").annotation_digest() == registered["OTB-2013 (51)"]


def test_headline_counts_own_claims_and_orderings_that_can_be_checked():
    rows = [
        {"id": "a", "kind": "own", "verdict": "not run"},
        {"id": "b", "kind": "ordering", "verdict": "reproduced"},
        {"id": "c", "kind": "rival", "verdict": "reproduced"},
        {"id": "d", "kind": "own", "verdict": "no number"},
    ]
    counts = claims.headline(rows)
    assert counts["reproduced"] == 1
    assert counts["not run"] == 1
    assert sum(counts.values()) == 2


@pytest.mark.parametrize(
    ("verdicts", "counted"),
    [
        (("reproduced", "reproduced"), "reproduced"),
        (("not comparable", "contradicted"), "contradicted"),
        (("reproduced", "contradicted"), "undecided"),
        (("not comparable", "not comparable"), "not comparable"),
    ],
)
def test_a_claim_recorded_by_two_stages_counts_once(verdicts, counted):
    counts = claims.headline({"id": "a", "kind": "own", "verdict": v} for v in verdicts)
    assert {v: n for v, n in counts.items() if n} == {counted: 1}


class Rendered:
    name = "rendered"

    def annotation_digest(self) -> str:
        return "0" * 64


EVIDENCE = {"n": 4, "interval": (0.5, 0.7), "convention": "otb", "dataset": Rendered()}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A finished stage that recorded one claim and one number of its own."""
    monkeypatch.setattr(claims, "stage_names", lambda: {"siamfc/2_otb", "siamfc/3_again"})
    stage = notebook.here("siamfc/2_otb", str(tmp_path / "smoke/siamfc/2_otb"))
    stage.record("dsiam.fig6.siamfc_3s.success_auc", 0.6, **EVIDENCE)
    stage.record("success_auc <b>", 0.61, **EVIDENCE)
    manifest = {"stage": "siamfc/2_otb", "metrics": notebook.read_records(stage.folder)}
    (stage.folder / "manifest.json").write_text(json.dumps(manifest))
    (stage.folder / "plot.png").write_bytes(b"")
    run_set = stage.folder / "siamfc-12345678"  # keeps a manifest of its own, which is no stage's
    run_set.mkdir()
    (run_set / "manifest.json").write_text('{"tracker": "siamfc"}')
    return tmp_path / "smoke"


def test_the_report_puts_reported_beside_measured(results):
    page, sheet = claims.write_report(results)
    with open(sheet, newline="") as f:
        rows = {row["id"]: row for row in csv.DictReader(f)}
    assert set(rows) == set(claims.load_claims())
    row = rows["dsiam.fig6.siamfc_3s.success_auc"]
    assert (row["value"], row["ours"], row["low"], row["high"], row["n"]) == ("0.608", "0.6", "0.5", "0.7", "4")
    assert (row["our_data"], row["verdict"], row["stage"]) == ("rendered", "not comparable", "siamfc/2_otb")
    text = page.read_text()
    assert "rendered data: not comparable" in text
    assert "success_auc &lt;b&gt;" in text
    assert "<img src='siamfc/2_otb/plot.png'" in text


def test_printed_numbers_that_public_ones_contradict_stand_in_the_report(results):
    """SPEC 2.6: SiaMemory's percentages put KCF above SiamFC, where public result files have it far below; 5.7: ROLO is
    not the best on most sequences of its own table."""
    found = claims.disputed(claims.compare(results))
    assert [(row["tracker"], row["value"]) for row in found] == [
        ("SiamMemory vs KCF", "18.5"),
        ("SiamMemory vs KCF", "14.9"),
        ("SiamMemory vs SiamFC", "26.2"),
        ("ROLO > every other tracker", ">0"),
    ]
    text = claims.write_report(results)[0].read_text()
    assert "in which ROLO is best on 13 of 30 rows, and best or second on 15" in text
    assert "contradicts public result files: it makes KCF&#x27;s AUC 0.589, above SiamFC&#x27;s 0.537" in text


def test_an_unfinished_stage_does_not_count(results):
    (results / "siamfc/2_otb/manifest.json").unlink()
    assert claims.collect(results) == {}


def again(results, name: str) -> None:
    """Another finished stage that recorded the same."""
    manifest = json.loads((results / "siamfc/2_otb/manifest.json").read_text())
    (results / name).mkdir()
    (results / name / "manifest.json").write_text(json.dumps({**manifest, "stage": name}))


def test_a_claim_recorded_by_two_stages_has_a_row_of_each(results):
    again(results, "siamfc/3_again")
    rows = [row for row in claims.compare(results) if row["id"] == "dsiam.fig6.siamfc_3s.success_auc"]
    assert [(row["stage"], row["ours"]) for row in rows] == [("siamfc/2_otb", 0.6), ("siamfc/3_again", 0.6)]
    assert [row["stage"] for row in claims.measured(results)] == ["siamfc/2_otb", "siamfc/3_again"]
    claims.write_report(results)


def test_a_stage_that_the_graph_no_longer_has_is_left_out_and_named(results, capsys):
    again(results, "siamfc/9_gone")
    assert [r["stage"] for r in claims.collect(results)["dsiam.fig6.siamfc_3s.success_auc"]] == ["siamfc/2_otb"]
    page, _ = claims.write_report(results)
    assert "siamfc/9_gone: left out" in capsys.readouterr().out
    assert "stages.yaml no more: siamfc/9_gone." in page.read_text()


def test_a_registered_benchmark_is_known_by_its_annotations_whatever_its_frames(tmp_path):
    """The verdict must be the same for a tree with images and for one of annotations alone."""
    boxes = np.array([[1.0, 2, 3, 4], [2, 2, 3, 4]])
    bare, full = (
        Dataset("d", [Sequence("s", frames, boxes)]) for frames in (NoFrames(2, "x"), np.zeros((2, 8, 8, 3), np.uint8))
    )
    stage = notebook.here("x", str(tmp_path))
    for dataset in (bare, full):
        stage.record(type(dataset["s"].frames).__name__, 1, dataset=dataset)
    digests = {r["dataset_digest"] for r in notebook.read_records(tmp_path).values()}
    assert digests == {sha256("s", B.to_one_based(boxes).tobytes())}


def test_record_refuses_an_unknown_claim_and_one_without_evidence(tmp_path):
    stage = notebook.here("x", str(tmp_path))
    with pytest.raises(ValueError, match=r"no claim 'siamfc.table2.siamfc-4s.fps'; near: .*siamfc-3s.fps"):
        stage.record("siamfc.table2.siamfc-4s.fps", 86)
    with pytest.raises(ValueError, match="a claim wants"):
        stage.record("siamfc.table2.siamfc-3s.fps", 86)
    with pytest.raises(ValueError, match="a claim wants"):
        stage.record("siamfc.table2.siamfc-3s.fps", float("nan"), **EVIDENCE)
    with pytest.raises(ValueError, match="a finite value and interval"):
        stage.record("siamfc.table2.siamfc-3s.fps", 86, **{**EVIDENCE, "interval": (math.nan, 90)})
    stage.record("anything else", 1, interval=(math.nan, math.nan), n=1, seen=1)
    stage.record("no number", math.nan)
    text = (tmp_path / notebook.METRICS).read_text()
    records = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(records) == {"anything else", "no number"}
    assert (records["anything else"]["interval"], records["anything else"]["seen"]) == (None, 1)
    assert records["no number"]["value"] is None


def test_a_claim_on_one_sequence_is_printed_and_not_kept(tmp_path, capsys):
    """A first try on one video ends as it should; it has no interval."""
    stage = notebook.here("x", str(tmp_path))
    stage.record("siamfc.table2.siamfc-3s.fps", 86, **EVIDENCE | {"n": 1, "interval": (math.nan, math.nan)})
    assert "on one sequence: no interval" in capsys.readouterr().out
    assert notebook.read_records(tmp_path) == {}


def test_inputs_come_from_the_runner_then_from_earlier_runs_then_as_shipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "results_root", lambda: tmp_path / "results")
    shipped = tmp_path / "shipped.txt"
    by_hand = notebook.here("p/b")
    assert by_hand.folder == tmp_path / "results/interactive/p/b"
    assert by_hand.input("p/a", "w.txt", otherwise=shipped) == shipped
    assert "using shipped.txt as shipped" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="python -m trackerlib run p/a"):
        by_hand.input("p/a", "w.txt")
    earlier = tmp_path / "results/smoke/p/a/w.txt"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("")
    assert by_hand.input("p/a", "w.txt", otherwise=shipped) == earlier
    run = notebook.here("p/b", str(tmp_path / "out"), {"p/a": str(tmp_path / "elsewhere")})
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        run.input("p/a", "w.txt", otherwise=shipped)
