"""Training by two processes: the same gradients, samples and files as one; killed, it goes on."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from trackerlib import siamfc, trainings
from trackerlib.nn.correlation import correlate_scales
from trackerlib.training import loop, parallel
from trackerlib.training.loop import FitConfig, fit, read_log

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Toy:
    """A training with all that processes must agree on: batch norm, drop-out, a moving average, clipping."""

    dropout: float = 0.0
    pause: float = 0.0  # seconds a step
    die_at: int = 0  # step at which the second process kills itself, the first time
    batch: int = 8

    def fit(self, folder, device, on_epoch):
        Path(folder).mkdir(parents=True, exist_ok=True)
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(self.dropout))
        model = nn.Sequential(*model, nn.Conv2d(6, 1, 4), nn.BatchNorm2d(1, affine=False), nn.Flatten()).double()
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape, generator=draw))
        torch.manual_seed(5)
        steps = 0

        def loss(model, batch):
            nonlocal steps
            steps += 1
            time.sleep(self.pause)
            marker = Path(folder) / "died"
            if parallel.rank() == 1 and steps == self.die_at and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return ((model(batch["x"]) - batch["y"]) ** 2).mean()

        (Path(folder) / f"pid-{parallel.rank()}").write_text(str(os.getpid()))
        config = FitConfig(4, 5, self.batch, 0.05, 0.01, average=0.9, clip=2.0, checkpoint_minutes=0.0)
        log = fit(model, loss, Images(), config, folder, "toy", device, on_epoch)
        if parallel.rank() == 0:
            torch.save(model.state_dict(), Path(folder) / "final.pt")
        return log


class Images:
    def __getitem__(self, i):
        draw = torch.Generator().manual_seed(i)
        x = torch.randn(3, 6, 6, generator=draw, dtype=torch.float64)
        return {"x": x, "y": x.mean((0, 1, 2), keepdim=True).flatten()}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(str(HERE))


def train(folder, processes, *settings):
    return trainings.torchrun("test_parallel:Toy", settings, folder, processes)


def final(folder):
    return torch.load(folder / "final.pt", weights_only=True)


def alone(folder, **values):
    return Toy(**values).fit(folder, "cpu", lambda row: None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Trained by two, undisturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.syspath_prepend(str(HERE))
        folder = tmp_path_factory.mktemp("pair")
        train(folder, 2)
    return folder


@contextmanager
def processes(count, number):
    """As one of so many sees the world."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "world", lambda: count)
        patch.setattr(parallel, "rank", lambda: number)
        yield


def test_shares_of_a_batch_are_all_of_it_and_do_not_overlap():
    drawn = []
    for number in range(4):
        with processes(4, number):
            drawn.append(list(loop._Places(3, 5, 8, parallel.share(8))))
    assert sorted(i for d in drawn for i in d) == list(range(24, 40))
    for step in (0, 1):  # in each step, the step's
        assert sorted(i for d in drawn for i in d[2 * step : 2 * step + 2]) == list(range(24 + 8 * step, 32 + 8 * step))
    with processes(3, 0), pytest.raises(ValueError, match="a batch of 8 cannot be shared by 3 processes equally"):
        parallel.share(8)


def test_two_processes_train_as_one(pair, tmp_path):
    """In double precision to rounding: the weights, the norms' statistics, the average, the losses."""
    log = alone(tmp_path)
    one, two = final(tmp_path), final(pair)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-9, atol=1e-12, msg=name)
    assert read_log(pair)["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-10)
    moved = one["0.weight"] - torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    assert moved.abs().max() > 0.01


def gradients(number, folder):
    """A process of two: the gradients of SiamFC's loss on its half of a batch, as they are after the exchange."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = (folder / "port").read_text()
    with parallel.joined():
        net, z, x = pairs()
        mine = parallel.share(len(z))
        with parallel.shared_norms(net):
            forward = parallel.spread(siamfc_loss, net)
            forward((z[mine.start : mine.stop], x[mine.start : mine.stop])).backward()
        assert type(net.backbone.conv1[1]) is nn.BatchNorm2d
        torch.save([p.grad for p in net.parameters()], folder / f"{number}.pt")


def pairs():
    net = siamfc.SiamFC(0.125).initialise(torch.Generator().manual_seed(0)).double().train()
    draw = torch.Generator().manual_seed(1)
    z, x = (torch.randint(0, 256, (4, 3, side, side), generator=draw).double() for side in (127, 239))
    return net, z, x


def siamfc_loss(net, batch):
    """The network's own, but for its `float()`: in double precision throughout."""
    scores = net.scale * correlate_scales(*map(net.embed, batch)) + net.bias
    return siamfc.logistic_loss(scores, *siamfc.labels(scores.shape[-1]))


def test_siamfcs_gradients_are_those_of_one_process_with_the_whole_batch(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    torch.multiprocessing.start_processes(gradients, (tmp_path,), 2, start_method="spawn")
    net, z, x = pairs()
    siamfc_loss(net, (z, x)).backward()
    for number in range(2):
        for theirs, p in zip(torch.load(tmp_path / f"{number}.pt", weights_only=True), net.parameters(), strict=True):
            # a convolution's bias before a norm has no gradient but rounding
            torch.testing.assert_close(theirs, p.grad, rtol=1e-8, atol=1e-12)


def test_a_lost_process_costs_nothing(pair, tmp_path, capfd):
    """kill -9 of one: torchrun starts both again, they go on from the checkpoint and end with the same bits."""
    train(tmp_path, 2, "die_at=13")
    assert (tmp_path / "died").exists()
    undisturbed, killed = final(pair), final(tmp_path)
    assert all(torch.equal(killed[name], undisturbed[name]) for name in killed)
    assert read_log(tmp_path)["loss"].tolist() == read_log(pair)["loss"].tolist()
    said = capfd.readouterr().out  # as they said it
    assert "going on from the checkpoint in" in said
    assert "epoch 4: loss" in said


def test_one_goes_on_where_two_stopped(pair, tmp_path, monkeypatch):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], start_new_session=True)
    while not (tmp_path / "log.jsonl").exists():
        assert driver.poll() is None
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)  # and what it started ends with it
    driver.wait()
    begun = []
    resume = loop._Run.resume
    monkeypatch.setattr(loop._Run, "resume", lambda run: begun.append(resume(run)) or begun[-1])
    for _ in range(300):
        with suppress(ValueError):  # another run trains into it: the two have not noticed yet
            alone(tmp_path)
            break
        time.sleep(0.1)
    assert 5 <= begun[-1] < 20  # after the first epoch of the two, before their last
    one, two = final(tmp_path), final(pair)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-9, atol=1e-12)


DRIVER = """
import sys
from trackerlib import trainings
trainings.torchrun("test_parallel:Toy", ["pause=0.1"], sys.argv[1], 2)
"""


def test_the_first_process_alone_writes(tmp_path):
    with processes(1, 1):
        assert len(alone(tmp_path)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pid-1"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("siamfcc", [], "no training is called 'siamfcc'; near: siamfc"),
        ("siamfc", ["widht=1"], "no field 'widht'; near: width"),
        ("siamfc", ["width=wide"], "width='wide' is str, want float"),
        ("siamfc", ["width"], "--set width: want name=value"),
        ("siamfc", ["batch=9"], "a batch of 9 cannot be shared by 2 processes"),
        ("nowhere:Class", [], "nowhere:Class: No module named 'nowhere'"),
    ],
)
def test_a_slip_is_told_before_anything_starts(tmp_path, name, settings, message):
    with pytest.raises(ValueError, match=message):
        trainings.torchrun(name, settings, tmp_path, 2)


def test_siamfc_by_two_processes_from_packed_crops(tmp_path):
    """And from the command line; what fails in a process is told with its last words."""
    from trackerlib.data import load_dataset
    from trackerlib.data.crops import cut_crops
    from trackerlib.nn.checkpoints import provenance

    cut_crops(load_dataset("rendered-train", count=3, frames=6), tmp_path / "crops")
    short = [f"crops={tmp_path / 'crops'}", "width=0.125", "epochs=2", "steps=2", "batch=4", "augmentation=strong"]
    log = trainings.torchrun("siamfc", short, tmp_path / "out", 2)
    assert log["samples"].tolist() == [8, 16]
    assert len(provenance(tmp_path / "out/siamfc.safetensors")["seen"]) == 3
    words = [word for setting in short for word in ("--set", setting)]
    command = [sys.executable, "-m", "trackerlib", "train", "siamfc", "--out", str(tmp_path / "one"), *words]
    assert "epoch 2: loss" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with pytest.raises(FileNotFoundError, match=r"no finished store of crops"):
        trainings.torchrun("siamfc", ["crops=/nowhere"], tmp_path / "none", 2)


def test_a_mean_over_processes_is_dists(monkeypatch):
    """Without others it is the tensor itself."""
    x = torch.ones(2)
    assert parallel.mean(x) is x
    assert not dist.is_initialized()
