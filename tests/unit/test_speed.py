"""The bench: its arithmetic, and that every figure says what it is a ratio of. Timings decide nothing here."""

import json
import math

import pytest
import torch

from trackerlib.bench import speed, speed_costs, speed_detect, speed_search
from trackerlib.nn.checkpoints import save_weights
from trackerlib.nn.squeezenet import SqueezeNet
from trackerlib.nn.yolo import YOLO
from trackerlib.siamemory import AllConv, Memory, SiaMemory
from trackerlib.siamfc import SiamFC
from trackerlib.trackers import load_tracker


def test_network_arithmetic_is_the_published_one():
    """5.44 GFLOP for a 255 x 255 search image: layer by layer 2 * weights * output cells."""
    cells = [123, 57, 26, 24, 22]
    weights = [11 * 11 * 3 * 96, 5 * 5 * 48 * 256, 9 * 256 * 384, 9 * 192 * 384, 9 * 192 * 256]
    assert speed.network_flops(SiamFC(), 1) == sum(2 * w * c * c for w, c in zip(weights, cells, strict=True))
    assert speed.network_flops(SiamFC(), 3) == 3 * speed.network_flops(SiamFC(), 1)


def test_main_writes_ratios_beside_what_they_are_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "bench", lambda device: dict.fromkeys(speed.FIGURES, 1.5))
    speed.main(tmp_path / "bench.json", only="trackers")
    flat = json.loads((tmp_path / "bench.json").read_text())
    for name, of in speed.FIGURES.items():
        assert flat[name] == 1.5
        assert flat[f"{name}__of"] == of
    assert "plain loop" in capsys.readouterr().out


def test_jobs_take_turns():
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = speed.in_turns(jobs, rounds=2, device="cpu")
    assert order == list("ababab")  # one warm-up round
    assert {len(s) for s in seconds.values()} == {2}
    assert min(s.min() for s in seconds.values()) == pytest.approx(0, abs=1)


def test_what_looking_at_frames_costs(monkeypatch):
    quarter = lambda name, **config: load_tracker(name, "random" if name == "rolo" else "siamfc-quarter", **config)  # noqa: E731
    monkeypatch.setattr(speed_detect, "load_tracker", quarter)
    found = speed_detect.bench_detect(frames=3, rounds=1, width=1 / 16)
    assert found.keys() == speed_detect.DETECT_FIGURES.keys()
    assert all(math.isfinite(value) and value > 0 for value in found.values())


def test_what_searching_whole_frames_costs(monkeypatch):
    random = lambda name, **config: load_tracker(name, "random" if "siamfc" not in name else "siamfc-quarter", **config)  # noqa: E731
    monkeypatch.setattr(speed_search, "load_tracker", random)
    monkeypatch.setattr(speed_search, "FRAME", (90, 160))
    monkeypatch.setattr(speed_search, "step_memory", lambda *_: 1.0)
    found = speed_search.bench_search(frames=2, rounds=1, width=1 / 16)
    assert found.keys() == speed_search.SEARCH_FIGURES.keys()
    assert all(math.isfinite(value) and value > 0 for value in found.values())


def test_memory_of_a_step_is_measured_in_a_process_of_its_own():
    assert 1 < speed_search.step_memory("cpu", 1 / 16) < 4000


def test_arithmetic_of_the_detector():
    """YOLO-small at full size: the layer table times its maps, 40.4 GFLOP a frame of 448 x 448."""
    with torch.device("meta"):
        assert speed_detect.detector_flops(YOLO()) == pytest.approx(40.4e9, rel=0.02)


def test_costs_are_those_that_are_told(monkeypatch, tmp_path):
    generator = torch.Generator().manual_seed(0)
    parts = (AllConv(0.25), SqueezeNet("1.1", 9, 0.25), Memory(256, 16))
    save_weights(SiaMemory(*(part.initialise(generator) for part in parts)), tmp_path / "m.safetensors", {})

    def quarter(name, **config):
        return load_tracker(name, tmp_path / "m.safetensors" if name == "siamemory" else "siamfc-quarter", **config)

    monkeypatch.setattr(speed_costs, "load_tracker", quarter)
    found = speed_costs.bench_costs(frames=3, rounds=1)
    assert found.keys() == speed_costs.COST_FIGURES.keys()
    assert all(map(math.isfinite, found.values()))
    assert found["siamemory_vectors_a_frame"] == 1
