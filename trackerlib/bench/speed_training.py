"""Whether the reader of packed crops keeps the training step busy: pairs per second of either, and of both together,
beside a plain loader that decodes two frames and crops them for every pair."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from ..boxes import context_side
from ..data.crops import cut_crops
from ..data.samplers import Augmentation, PairSampler
from ..data.sequence import Dataset
from ..siamfc import EXEMPLAR, SEARCH, SiamFC, pair_loss
from ..training.loop import FitConfig, fit
from .speed import CONV_FLOPS, in_turns, network_flops, padded_crop, peaks
from .speed_engine import jpeg_dataset

TRAINING_FIGURES = {
    "training_loader_cost": "share of the training rate that reading and augmenting costs, in the process that trains: "
    "1 less the rate with packed crops over that with pairs that are ready; full width, batches of 8",
    "training_reader_vs_step": "pairs a second that one process reads from packed crops over what it trains on",
    "training_reader_vs_cv2": "pairs a second of the packed reader (with the release's augmentation) over a plain cv2 "
    "loader's (two frames of 1280 x 720 decoded, padded, cropped, resized; no augmentation of colours)",
    "training_jpeg_reader_vs_cv2": "the same for crops packed as JPEG of quality 90",
    "training_both_vs_cv2": "pairs a second trained with the packed reader over those trained with the cv2 loader",
    "training_step_share_of_peak": "GFLOP/s of the training step (three times the forward pass) over the processor's "
    "measured peak, fp32",
    "pairs_per_second_reader": "pairs a second, packed crops, one process",
    "pairs_per_second_jpeg_reader": "the same from JPEG",
    "pairs_per_second_cv2": "the same by the cv2 loader",
    "pairs_per_second_step": "pairs a second, training step alone",
    "pairs_per_second_both": "pairs a second, packed reader and training step",
    "crops_per_second_cut": "frames of 1280 x 720 decoded and cut a second, one process",
    "bytes_per_crop": "of packed crops",
    "bytes_per_crop_jpeg": "of JPEG crops, of rendered frames enlarged to 1280 x 720, which compress well",
}


class Ready:
    """Pairs that are there already."""

    def __init__(self, samples: PairSampler, count: int = 8):
        self.pairs = [samples[index] for index in range(count)]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.pairs[index % len(self.pairs)]


class PlainLoader:
    """A pair as it is commonly loaded: two images from disk, each padded where the crop needs it, sliced, resized."""

    def __init__(self, dataset: Dataset, search: int = 239):
        self.sequences, self.search = list(dataset.values()), search

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(index)
        sequence = self.sequences[rng.integers(len(self.sequences))]
        first, second = rng.integers(len(sequence), size=2)
        x = self._crop(sequence, second, SEARCH)
        left, top = rng.integers(4, 13, 2)  # the release's translation: 4 pixels each way
        return {
            "z": self._crop(sequence, first, EXEMPLAR),
            "x": np.ascontiguousarray(x[top : top + self.search, left : left + self.search]),
        }

    @staticmethod
    def _crop(sequence, frame: int, out: int) -> np.ndarray:
        image = cv2.cvtColor(cv2.imread(str(sequence.frames.paths[frame])), cv2.COLOR_BGR2RGB)
        box = sequence.boxes[frame]
        side = float(context_side(box[2:])) * out / EXEMPLAR
        return padded_crop(image, box[:2] + box[2:] / 2, side, out)


def bench_training(
    device: str = "cpu", rounds: int = 3, steps: int = 4, width: float = 1.0, frames: int = 12
) -> dict[str, float]:
    """The figures above; medians over `rounds` of what was timed in turns."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = jpeg_dataset(Path(folder), frames)
        stores = {q: cut_crops(dataset, Path(folder) / f"crops{q}", quality=q) for q in (0, 90)}
        packed, jpeg = (PairSampler([stores[q]], Augmentation()) for q in (0, 90))
        plain, ready = PlainLoader(dataset), Ready(packed)
        read = lambda samples, count: lambda: [samples[index] for index in range(count)]  # noqa: E731
        cut = lambda: cut_crops(dataset[:1], Path(folder) / "again", seed=next(seeds))  # noqa: E731
        seeds = iter(range(1, 1000))
        work = {"packed": read(packed, 60), "jpeg": read(jpeg, 60), "cv2": read(plain, 15), "cut": cut} | peaks(device)
        timed = in_turns(work, rounds, device)
        rates = {"packed": 60 / timed["packed"], "jpeg": 60 / timed["jpeg"], "cv2": 15 / timed["cv2"]}
        cuts = frames / timed["cut"]
        trained = {"step": ready, "both": packed, "both_cv2": plain}
        fits = {name: [] for name in trained}
        for turn in range(rounds + 1):
            for name, samples in trained.items():
                net = SiamFC(width).initialise(torch.Generator().manual_seed(0))
                config = FitConfig(1, steps, 8)
                log = fit(net, pair_loss, samples, config, Path(folder) / f"{name}{turn}", name, device)
                fits[name].append(log["samples_per_second"].iloc[-1])
    rates |= {name: np.array(found[1:]) for name, found in fits.items()}  # the first was to warm up
    ratio = lambda a, b: float(np.median(rates[a] / rates[b]))  # noqa: E731
    per_pair = 3 * (network_flops(SiamFC(width), 1, EXEMPLAR) + network_flops(SiamFC(width), 1, 239))
    peak = np.median(np.maximum(2 * 2048**3 / timed["mm"], CONV_FLOPS / timed["conv"]))
    return {
        "training_loader_cost": 1 - ratio("both", "step"),
        "training_reader_vs_step": ratio("packed", "step"),
        "training_reader_vs_cv2": ratio("packed", "cv2"),
        "training_jpeg_reader_vs_cv2": ratio("jpeg", "cv2"),
        "training_both_vs_cv2": ratio("both", "both_cv2"),
        "training_step_share_of_peak": float(np.median(rates["step"]) * per_pair / peak),
        "pairs_per_second_reader": float(np.median(rates["packed"])),
        "pairs_per_second_jpeg_reader": float(np.median(rates["jpeg"])),
        "pairs_per_second_cv2": float(np.median(rates["cv2"])),
        "pairs_per_second_step": float(np.median(rates["step"])),
        "pairs_per_second_both": float(np.median(rates["both"])),
        "crops_per_second_cut": float(np.median(cuts)),
        "bytes_per_crop": stores[0].manifest["bytes"] / len(stores[0]),
        "bytes_per_crop_jpeg": stores[90].manifest["bytes"] / len(stores[90]),
    }
