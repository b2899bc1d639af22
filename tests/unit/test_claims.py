"""Claims: the register is whole, and verdicts are computed as the register's rules say."""

import csv
import json

import pytest

from trackerlib import claims, notebook
from trackerlib.claims import VERDICTS, Claim, verdict
from trackerlib.data import load_dataset

BENCHMARKS = {"abc": "OTB-2013 (51)"}


def claim(kind="own", value="0.608") -> Claim:
    return Claim("p.x", kind, "p", "Figure 1", "OTB-2013 (51)", "OPE", "T", "success_AUC", value, "printed", "")


def record(low, high, digest="abc") -> dict:
    return {"value": (low + high) / 2, "n": 51, "interval": [low, high], "dataset_digest": digest}


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
    ],
)
def test_a_verdict_follows_from_interval_and_digest(of, measured, expected):
    assert expected in VERDICTS
    assert verdict(of, measured, BENCHMARKS) == expected


@pytest.mark.real
def test_the_register_has_every_reported_number(shared):
    with open(shared / "papers/reported_numbers.csv", newline="") as f:
        reported = list(csv.DictReader(f))
    register = [c for c in claims.load_claims().values() if c.kind != "ordering"]
    spell = {"OTB-2013": "OTB-2013 (51)"}
    wanted = sorted((spell.get(r["dataset"], r["dataset"]), r["metric"], r["value"], r["source"]) for r in reported)
    assert sorted((c.dataset, c.metric, c.value, c.provenance) for c in register) == wanted


def test_well_known_claims_stand_in_the_register():
    register = claims.load_claims()
    assert register["siamfc.table2.siamfc-3s.expected_overlap"].number == 0.2889
    assert register["dsiam.fig6.dsiamm.success_auc"].provenance == "derived"
    assert register["rolo.table1.woman.rolo.aos"].number == 0.649
    assert register["gstp.fig4.gstp.success_auc"].number == 0.557
    assert register["dsiam.fig7.bc.hcf-over-dsiamm"].tracker == "HCF > DSiamM"
    assert all(c.value == ">0" and " > " in c.tracker for c in register.values() if c.kind == "ordering")


@pytest.mark.real
def test_the_registered_digest_is_that_of_the_published_annotations(shared):
    registered = {name: digest for digest, name in claims.load_benchmarks().items()}
    assert load_dataset("otb2013", shared / "data/published/otb100").digest() == registered["OTB-2013 (51)"]


def test_headline_counts_own_claims_and_orderings_that_can_be_checked():
    rows = [
        {"kind": "own", "verdict": "not run"},
        {"kind": "ordering", "verdict": "reproduced"},
        {"kind": "rival", "verdict": "reproduced"},
        {"kind": "own", "verdict": "no number"},
    ]
    counts = claims.headline(rows)
    assert counts["reproduced"] == 1
    assert counts["not run"] == 1
    assert sum(counts.values()) == 2


class Rendered:
    name = "rendered"

    def digest(self) -> str:
        return "0" * 64


EVIDENCE = {"n": 4, "interval": (0.5, 0.7), "convention": "otb", "dataset": Rendered()}


@pytest.fixture
def results(tmp_path):
    """A finished stage that recorded one claim and one number of its own."""
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


def test_an_unfinished_stage_does_not_count(results):
    (results / "siamfc/2_otb/manifest.json").unlink()
    assert claims.collect(results) == {}


def test_a_claim_recorded_twice_is_an_error(results):
    manifest = json.loads((results / "siamfc/2_otb/manifest.json").read_text())
    again = results / "siamfc/3_again"
    again.mkdir()
    (again / "manifest.json").write_text(json.dumps({**manifest, "stage": "siamfc/3_again"}))
    with pytest.raises(ValueError, match=r"recorded by siamfc/2_otb and by siamfc/3_again"):
        claims.collect(results)


def test_record_refuses_an_unknown_claim_and_one_without_evidence(tmp_path):
    stage = notebook.here("x", str(tmp_path))
    with pytest.raises(ValueError, match=r"no claim 'siamfc.table2.siamfc-4s.fps'; near: .*siamfc-3s.fps"):
        stage.record("siamfc.table2.siamfc-4s.fps", 86)
    with pytest.raises(ValueError, match="a claim wants"):
        stage.record("siamfc.table2.siamfc-3s.fps", 86)
    with pytest.raises(ValueError, match="a claim wants"):
        stage.record("siamfc.table2.siamfc-3s.fps", float("nan"), **EVIDENCE)
    stage.record("anything else", 1)
    assert set(notebook.read_records(tmp_path)) == {"anything else"}


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
