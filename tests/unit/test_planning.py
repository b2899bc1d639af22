"""The planning page: its counts are the published ones, its hours follow from them, the code makes it of the rates."""

import time
from pathlib import Path

import pytest
import torch

from trackerlib import planning, speed_planning
from trackerlib.bench.speed import network_flops
from trackerlib.planning_counts import PAPERS, SETS, networks, works
from trackerlib.siamfc import SiamFC

SHOWCASE = Path(__file__).resolve().parents[2] / "results" / "showcase"


@pytest.fixture(scope="module")
def rates():
    return planning.read_rates([SHOWCASE / "planning_rates.json"])


@pytest.fixture(scope="module")
def rows(rates):
    return planning.plan(rates)


def row(rows, stage, work):
    return rows[(rows.stage == stage) & (rows.work == work)].squeeze()


def test_networks_take_what_is_published():
    """SiamFC 5.44 GFLOP at 255, YOLO-small 40.2, a step of GSTP 656 as `bench --only search` counts it."""
    gflop = {name: gflop for name, (gflop, _) in networks().items()}
    assert gflop["siamfc 255"] == pytest.approx(network_flops(SiamFC(), 1) / 1e9) == pytest.approx(5.44, abs=0.005)
    assert gflop["yolo 448"] == pytest.approx(40.2, abs=0.1)
    assert gflop["siamrcnn frame"] + gflop["motion 384"] == pytest.approx(656.2, abs=0.1)
    assert networks()["rolo window"][1] == pytest.approx(134_627_640, rel=2e-4)  # and torch's second bias of each gate
    assert networks()["siamrcnn pair"][1] == 25_674_876


def test_counts_are_the_papers(rows):
    assert row(rows, "siamfc/1_train", "train SiamFC")["count"] == 50 * 50_000
    assert row(rows, "siamfc/4_dataset_size", "train SiamFC, 6 fractions")["count"] == 6 * 50 * 50_000
    assert row(rows, "siamfc/1_train", "cut crops of imagenet-vid")["count"] == 1_122_397 + 176_126
    assert row(rows, "gstp/1_train_siamrcnn", "train SiamRCNN")["count"] == 27_000 * 8
    assert row(rows, "siamfc/2_otb", "siamfc on otb2013")["count"] == 29_486 * (1 + 10 + 12)
    assert row(rows, "siamfc/2_otb", "siamfc on otb2013").gflop == pytest.approx(5 * 5.4394, rel=1e-4)
    assert set(rows.stage.str.split("/").str[0]) == set(PAPERS)


def test_hours_are_work_over_rate(rows, rates):
    """50 epochs of 50,000 pairs: three passes of 0.92 and 4.66 GFLOP at 67 TFLOP/s times 0.3 and 0.05."""
    r = row(rows, "siamfc/1_train", "train SiamFC")
    gflop = 3 * (networks()["siamfc pair"][0])
    assert r.gflop == pytest.approx(gflop) == pytest.approx(16.75, abs=0.01)
    assert r.pflop == pytest.approx(2.5 * gflop)
    assert r["GPU_best"] == pytest.approx(2.5e6 * gflop * 1e9 / (0.30 * 67e12) / 3600)
    assert r["GPU_worst"] == pytest.approx(6 * r["GPU_best"])
    assert r["reading_best"] == pytest.approx(2.5e6 / rates["pairs_per_second_reader"] / 4 / 3600)
    parts = [r[f"{part}_best"] for part in planning.PARTS]
    assert r.best == max(parts)
    assert r.best < r.worst


def test_a_rate_twice_as_high_halves_its_hours(rows, rates):
    faster = planning.plan({**rates, "crops_per_second_cut": 2 * rates["crops_per_second_cut"]})
    cut = rows.work.str.startswith("cut")
    assert list(faster[cut].best) == pytest.approx(list(rows[cut].best / 2))
    assert list(faster[~cut].best) == pytest.approx(list(rows[~cut].best))


def test_a_share_measured_on_cuda_replaces_the_assumed_one(rates):
    known = planning.plan({**rates, "cuda.network_share_of_peak": 0.5})
    r = row(known, "siamfc/2_otb", "siamfc-3s on otb2013")
    assert (r.tflops_best, r.tflops_worst) == (33.5, 33.5)
    assert "No GPU was at hand" not in planning.page({**rates, "cuda.network_share_of_peak": 0.5})


def test_eight_gpus(rows, rates):
    eight = planning.plan(rates, gpus=8)
    by_batch = dict(zip(eight.stage + " " + eight.work, eight.gpus, strict=True))
    assert by_batch["siamfc/1_train train SiamFC"] == 8
    assert by_batch["siamemory/0_goturn train GOTURN"] == 5  # of its batch of 50
    assert by_batch["rolo/3_lstm train LSTM on boxes"] == 1
    assert by_batch["gstp/4_uav20l gstp on uav20l"] == pytest.approx(4 * rates["cluster_2_vs_1"])
    exchange = eight[eight.work == "train SiamFC"].exchange.item()
    assert exchange == pytest.approx(312_500 * 2 * 7 / 8 * 4 * networks()["siamfc pair"][1] / 300e9 / 3600)
    assert (eight.worst <= rows.worst + eight.exchange).all()
    assert planning.one_stage_each(rows, "siamfc", "best") < rows[rows.stage.str.startswith("siamfc")].best.sum()


def test_disk(rows, rates):
    crops = row(rows, "siamfc/1_train", "cut crops of imagenet-vid").disk_gb
    assert crops == pytest.approx(SETS["imagenet-vid"].frames * rates["bytes_per_crop"] / 1e9)
    assert planning.data_of(rows) == pytest.approx(92.1 + 72 + 1.2 + 1.3 + 2.7 + 1.3 + SETS["uav20l"].gigabytes)


def test_what_is_wrong_is_named(rates, tmp_path):
    with pytest.raises(KeyError, match="host_ms_kcf: python -m trackerlib bench"):
        works({name: value for name, value in rates.items() if name != "host_ms_kcf"})
    with pytest.raises(ValueError, match="H100, H200"):
        planning.plan(rates, "TITAN X")
    (tmp_path / "rates.json").write_text("[1")
    with pytest.raises(ValueError, match="not what bench --json writes"):
        planning.read_rates([tmp_path / "rates.json"])


def test_what_is_measured_is_there(rates):
    assert set(speed_planning.PLANNING_FIGURES) <= set(rates)
    layer, image = torch.nn.Conv2d(64, 64, 3), torch.rand(4, 64, 100, 100)
    started = time.perf_counter()
    outside = speed_planning._outside(lambda: [layer(image), time.sleep(0.02)])
    assert 0.02 <= outside < time.perf_counter() - started


def test_the_page_is_what_the_code_makes_of_the_rates(rates):
    """After a change: python -m trackerlib plan --out results/showcase/planning.md"""
    assert (SHOWCASE / "planning.md").read_text() == planning.page(rates)
