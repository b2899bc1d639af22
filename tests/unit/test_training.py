"""The training loop: exact resume, and pairs that depend on (seed, index) alone."""

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from trackerlib.data.crops import cut, cut_crops
from trackerlib.data.samplers import STRONG, Augmentation, ClassSampler, PairSampler
from trackerlib.data.sequence import Dataset, Sequence
from trackerlib.training.loop import FitConfig, fit, read_log


def moving_square(name="s", count=12, seed=0):
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 256, (90, 120, 3), np.uint8)
    frames, boxes = [], []
    for t in range(count):
        image = background.copy()
        image[30:50, 20 + 3 * t : 40 + 3 * t] = rng.integers(100, 256, 3)
        frames.append(image)
        boxes.append([20 + 3 * t, 30, 20, 20])

    class Frames(list):
        def digest(self):
            return name

    return Sequence(name, Frames(frames), np.array(boxes, float))


@pytest.fixture
def store(tmp_path):
    return cut_crops(Dataset("toy", [moving_square("a"), moving_square("b", seed=1)]), tmp_path / "crops", stills=1)


def test_log_rates_end_at_the_paper_s():
    """logspace(-2, -5, 50) a epoch: ratio 0.868511."""
    config = FitConfig(steps=10)
    assert config.rate(0) == pytest.approx(1e-2)
    assert config.rate(10) / config.rate(0) == pytest.approx(0.868511, abs=1e-6)
    assert config.rate(499) == pytest.approx(1e-5)


def test_crop_centres_the_target_at_exemplar_scale():
    sequence = moving_square()
    crop = cut(sequence.frames[0], sequence.boxes[0])
    ys, xs = np.nonzero((crop == crop[127, 127]).all(-1))
    assert (xs.min() + xs.max()) / 2 == pytest.approx(127, abs=1)
    assert (ys.min() + ys.max()) / 2 == pytest.approx(127, abs=1)
    assert np.ptp(xs) + 1 == pytest.approx(63.5, abs=3)  # context doubles a square: 127 / 2


def test_store_is_cut_once(store, tmp_path):
    before = (store.folder / "00000.bin").stat().st_mtime_ns
    again = cut_crops(Dataset("toy", [moving_square("a"), moving_square("b", seed=1)]), tmp_path / "crops", stills=1)
    assert (store.folder / "00000.bin").stat().st_mtime_ns == before
    assert len(again) == 48
    assert set(again.index["source"]) == {"real", "still"}


def test_pairs_depend_on_seed_and_index_alone(store):
    a, b = PairSampler([store], STRONG, seed=3), PairSampler([store], STRONG, seed=3)
    b[5]
    for index in (0, 7, 1000):
        for key in "zx":
            np.testing.assert_array_equal(a[index][key], b[index][key])
    assert (a[7]["x"] != PairSampler([store], STRONG, seed=4)[7]["x"]).any()
    assert a[0]["z"].shape == (127, 127, 3)
    assert a[0]["x"].shape == (239, 239, 3)


def test_both_crops_show_the_same_target_at_the_centre(store):
    """Without augmentation the exemplar is the middle of a search image of the same frame."""
    none = Augmentation(stretch=0, shift=0, lighting=0)
    sampler = PairSampler([store], none, weights={"real": 0, "still": 1})
    pair = sampler[0]
    np.testing.assert_array_equal(pair["z"], pair["x"][56:183, 56:183])


def test_crops_come_with_their_class(store):
    """Each class is drawn as often, and from its own sequence."""
    calm = Augmentation(stretch=0, shift=0, lighting=0)
    sampler = ClassSampler(store, {"a": "square", "b": "other"}, calm, size=97, seed=1)
    assert sampler.classes == ["other", "square"]
    drawn = [sampler[k] for k in range(60)]
    assert {d["x"].shape for d in drawn} == {(97, 97, 3)}
    for d in drawn:
        own = np.stack([store.crops[r][79:176, 79:176] for r in sampler.rows[sampler.classes[d["y"]]]]).astype(int)
        assert np.abs(own - d["x"]).max((1, 2, 3)).min() <= 1  # a crop of that class, cut from its middle
    assert 20 < sum(d["y"] for d in drawn) < 40
    assert (sampler[7]["x"] == ClassSampler(store, {"a": "square", "b": "other"}, calm, 97, 1)[7]["x"]).all()
    assert sampler.digest() != ClassSampler(store, {"a": "square", "b": "other"}, calm, 97, 2).digest()
    swapped = ClassSampler(store, {"b": "square", "a": "other"}, calm, 97, 1)
    assert sampler.digest() != swapped.digest()  # as many crops of each, and every label another
    with pytest.raises(ValueError, match="crops of 1 classes; sequences want a category"):
        ClassSampler(store, {"a": "square", "b": ""})


def test_gap_is_respected(tmp_path):
    store = cut_crops(Dataset("toy", [moving_square("a", count=30)]), tmp_path / "c")
    sampler = PairSampler([store], gap=4)
    frames = store.index["frame"].to_numpy()
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(200):
        _, i, j = sampler._rows("real", rng)
        gaps.append(frames[j] - frames[i])
    assert set(map(abs, gaps)) == {1, 2, 3, 4}
    assert min(gaps) < 0 < max(gaps)


SCRIPT = textwrap.dedent(
    """
    import sys, time, torch
    from trackerlib.training.loop import FitConfig, fit
    class Samples:
        def __getitem__(self, i):
            g = torch.Generator().manual_seed(i)
            x = torch.randn(4, generator=g)
            return {"x": x, "y": x.sum()}
    def loss(model, batch):
        time.sleep(float(sys.argv[2]))
        return ((model(batch["x"]).squeeze(1) - batch["y"]) ** 2).mean() + 0 * torch.rand(())
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    torch.manual_seed(0)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    torch.manual_seed(1)
    fit(model, loss, Samples(), FitConfig(epochs=6, steps=10, batch=4, lr=0.05, lr_end=0.01, average=0.9,
        checkpoint_minutes=0.0), sys.argv[1], "toy")
    torch.save(model.state_dict(), sys.argv[1] + "/final.pt")
    """
)


def run_script(folder, delay, kill_after=None):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(delay)])
    if kill_after is None:
        assert process.wait(120) == 0
        return
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not (folder / "log.jsonl").exists():
        time.sleep(0.01)
    time.sleep(kill_after)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "final.pt").exists()


def test_kill_and_rerun_ends_with_the_same_bits(tmp_path):
    """kill -9 in the middle of an epoch, with dropout and a moving average in play."""
    run_script(tmp_path / "whole", 0)
    run_script(tmp_path / "killed", 0.02, kill_after=0.15)
    run_script(tmp_path / "killed", 0)
    whole, killed = (torch.load(tmp_path / f / "final.pt", weights_only=True) for f in ("whole", "killed"))
    assert all(torch.equal(whole[k], killed[k]) for k in whole)
    a, b = read_log(tmp_path / "whole"), read_log(tmp_path / "killed")
    assert a["loss"].tolist() == b["loss"].tolist()
    assert len(a) == 6


class Line:
    def __getitem__(self, i):
        return {"x": torch.tensor([float(i % 5)]), "y": torch.tensor([2.0 * (i % 5)])}


def square(model, batch):
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()


def test_another_configuration_is_refused(tmp_path):
    small = {"epochs": 1, "steps": 3, "batch": 2}
    start = torch.nn.Linear(1, 1)
    fit(copy.deepcopy(start), square, Line(), FitConfig(**small, lr=0.01), tmp_path, "toy")
    again = fit(copy.deepcopy(start), square, Line(), FitConfig(**small, lr=0.01, workers=1), tmp_path, "toy")
    assert len(again) == 1  # finished, and who makes the samples is no difference
    for model, lr, samples in [(start, 0.02, "toy"), (start, 0.01, "others"), (torch.nn.Linear(1, 1), 0.01, "toy")]:
        with pytest.raises(ValueError, match="another configuration"):
            fit(copy.deepcopy(model), square, Line(), FitConfig(**small, lr=lr), tmp_path, samples)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    def broken(model, batch):
        return square(model, batch) * float("nan")

    with pytest.raises(FloatingPointError, match="step 3"):
        fit(torch.nn.Linear(1, 1), broken, Line(), FitConfig(epochs=1, steps=3, batch=2), tmp_path, "toy")
    for wrong in ("precision", "optimiser"):
        with pytest.raises(ValueError, match=f"{wrong} is .* not 'bf61'"):
            FitConfig(**{wrong: "bf61"})
    for wrong in ({"epochs": 0}, {"steps": 0}, {"batch": 0}, {"lr": -1.0}, {"average": 1.0}, {"clip": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
            FitConfig(**wrong)


def test_training_lowers_the_loss_and_logs_it(tmp_path):
    model = torch.nn.Linear(1, 1)
    log = fit(model, square, Line(), FitConfig(epochs=4, steps=20, batch=4, lr=0.05, lr_end=0.05), tmp_path, "toy")
    assert log["loss"].iloc[-1] < 0.1 * log["loss"].iloc[0]
    assert log["samples"].tolist() == [80, 160, 240, 320]


def line(weight=0.0, bias=0.0):
    model = torch.nn.Linear(1, 1)
    for p, value in zip(model.parameters(), (weight, bias), strict=True):
        torch.nn.init.constant_(p, value)
    return model


def split(**first):
    """Groups: the weight with these settings, and the bias."""
    return lambda model: [{"params": [model.weight], **first}, {"params": [model.bias]}]


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_group_s_rate_times_the_schedule(tmp_path, optimiser, rate):
    """One step at x = 1, y = 2 from (0, 0): gradients are -4, and Adam's first step is the sign's."""
    config = FitConfig(epochs=1, steps=1, batch=1, lr=0.01, clip=0, optimiser=optimiser)
    model, one = line(), [{"x": torch.ones(1), "y": 2 * torch.ones(1)}]
    fit(model, square, one, config, tmp_path, "toy", groups=split(rate=rate))
    step = 0.04 if optimiser == "sgd" else 0.01
    assert model.weight.item() == pytest.approx(rate * step, rel=1e-5)
    assert model.bias.item() == pytest.approx(step, rel=1e-5)


def test_a_group_s_decay_is_the_configuration_s_unless_it_says_so(tmp_path):
    """Without a gradient a step takes lr * rate * decay of a parameter."""
    config = FitConfig(epochs=1, steps=1, batch=1, lr=0.1, weight_decay=0.5)
    for decay, left in [({}, 1 - 0.2 * 0.5), ({"weight_decay": 0.25}, 1 - 0.2 * 0.25)]:
        model = line(3.0, 3.0)
        nothing = lambda model, batch: 0 * square(model, batch)  # noqa: E731
        fit(model, nothing, Line(), config, tmp_path / str(left), "toy", groups=split(rate=2.0, **decay))
        assert model.weight.item() == pytest.approx(3 * left)
        assert model.bias.item() == pytest.approx(3 * 0.95)


def test_adam_s_first_beta_is_the_momentum(tmp_path):
    """Gradients 1, then 0: m = (1 - b) b / (1 - b^2) = 1/3 at b = 1/2, and v = 0.999 / 1.999."""
    config = FitConfig(epochs=1, steps=2, batch=1, lr=0.1, optimiser="adam", momentum=0.5, weight_decay=0)
    model = line()
    fit(
        model,
        lambda m, b: (m.weight * b["x"]).sum(),
        [{"x": torch.ones(1)}, {"x": torch.zeros(1)}],
        config,
        tmp_path,
        "",
    )
    assert model.weight.item() == pytest.approx(-0.1 * (1 + (1 / 3) / (0.999 / 1.999) ** 0.5), rel=1e-4)


def test_other_groups_or_another_optimiser_are_refused(tmp_path):
    small = {"epochs": 1, "steps": 3, "batch": 2}
    fit(line(), square, Line(), FitConfig(**small), tmp_path, "toy", groups=split(rate=0.5))
    fit(line(), square, Line(), FitConfig(**small), tmp_path, "toy", groups=split(rate=0.5))
    others = [split(rate=0.4), split(rate=0.5, weight_decay=0.0), None]
    for groups, optimiser in [*((g, "sgd") for g in others), (split(rate=0.5), "adam")]:
        with pytest.raises(ValueError, match="another configuration"):
            fit(line(), square, Line(), FitConfig(**small, optimiser=optimiser), tmp_path, "toy", groups=groups)
    frozen = line()
    frozen.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="another configuration"):
        fit(frozen, square, Line(), FitConfig(**small), tmp_path, "toy", groups=split(rate=0.5))


def test_groups_hold_each_trained_parameter_of_the_model(tmp_path):
    def attempt(groups, model):
        fit(model, square, Line(), FitConfig(epochs=1, steps=1, batch=1), tmp_path, "toy", groups=groups)

    only_weight = lambda model: [{"params": [model.weight]}]  # noqa: E731
    with pytest.raises(ValueError, match="in no group: bias; freeze"):
        attempt(only_weight, line())
    with pytest.raises(ValueError, match="1 parameters that are not the model's"):
        attempt(lambda model: [{"params": [*model.parameters(), line().bias]}], line())
    with pytest.raises(ValueError, match="not lr"):
        attempt(split(lr=0.1), line())
    model = line(1.0, 1.0)
    model.bias.requires_grad_(False)
    attempt(only_weight, model)
    assert model.bias.item() == 1.0


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_resume_is_exact_with_groups(tmp_path, optimiser):
    """A run that breaks off in the middle of an epoch and goes on, with a frozen layer, three rates and an average."""
    config = FitConfig(
        epochs=3, steps=5, batch=4, lr=0.03, lr_end=0.01, optimiser=optimiser, average=0.9, checkpoint_minutes=0
    )
    torch.manual_seed(0)
    start = torch.nn.Sequential(
        torch.nn.Linear(1, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)
    )
    start[2].requires_grad_(False)

    def groups(model):
        return [
            {"params": [model[0].weight], "rate": 0.1},
            {"params": [model[0].bias, *model[2].parameters()], "weight_decay": 0.0},
            {"params": list(model[3].parameters()), "rate": 3.0},
        ]

    def run(folder, steps=None):
        torch.manual_seed(1)
        seen, model = [], copy.deepcopy(start)

        def loss(model, batch):
            if len(seen) == steps:
                raise KeyboardInterrupt
            seen.append(1)
            return square(model, batch)

        log = fit(model, loss, Line(), config, folder, "toy", groups=groups)
        return model.state_dict(), log["loss"].tolist(), len(seen)

    whole, losses, steps = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 7)
    resumed, again, rest = run(tmp_path / "broken")
    assert (steps, rest) == (15, 8)
    assert again == losses
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert torch.equal(whole["2.weight"], start[2].weight)


def test_milestones_take_the_place_of_the_last_rate():
    config = FitConfig(epochs=210, steps=10, lr=1e-3, lr_end=1e-5, milestones=(170, 200))
    assert [config.rate(10 * epoch) for epoch in (0, 169)] == [1e-3, 1e-3]
    assert [config.rate(10 * epoch + 9) for epoch in (170, 209)] == pytest.approx([1e-4, 1e-5])
