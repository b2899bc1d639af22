"""SORT: A. Bewley et al., *Simple online and realtime tracking* (ICIP 2016), on YOLO's detections: ROLO's rival.

A Kalman filter of constant velocity follows each box; what is detected is given to the track whose prediction it
overlaps most. ROLO's form of it (sort_yolo.py) is told one detection a frame, and answers with its first track.

    x = (u, v, s, r, u', v', s'): centre, area, aspect w / h, and their changes; r does not change
    x <- F x,  P <- F P F^T + Q;      K = P H^T (H P H^T + R)^-1,  x <- x + K (z - H x),  P <- (1 - K H) P

Numbers are those of abewley/sort.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import torch

from .. import boxes as B
from ..config import bounded
from ..nn.yolo import YOLO
from ..rolo import Detector, ROLOConfig, TargetState, in_frame
from ..tracker import Frames, Output, State

F = np.eye(7) + np.eye(7, k=4)
H = np.eye(4, 7)
R = np.diag([1.0, 1, 10, 10])
P = 10 * np.diag([1.0, 1, 1, 1, 1000, 1000, 1000])
Q = np.diag([1.0, 1, 1, 1, 0.01, 0.01, 0.0001])


def measured(box: np.ndarray) -> np.ndarray:
    """z `(4,)`: u, v, s, r of a box x, y, w, h."""
    return np.array([*B.centre(box), box[2] * box[3], box[2] / box[3]])


def boxed(x: np.ndarray) -> np.ndarray:
    """x, y, w, h of a state; NaN where area and aspect differ in sign."""
    w = np.sqrt(x[2] * x[3]) if x[2] * x[3] > 0 else np.nan
    return B.from_centre(x[:2], np.array([w, x[2] / w]))


@dataclass(frozen=True)
class KalmanTrack:
    """One box's filter; every step makes a new one."""

    x: np.ndarray  # (7,)
    P: np.ndarray  # (7, 7)
    hits: int = 0  # detections in a row
    missed: int = 0  # frames since the last one
    age: int = 0  # frames since the first one

    @classmethod
    def begun(cls, box: np.ndarray) -> KalmanTrack:
        return cls(np.append(measured(box), np.zeros(3)), P)

    def predicted(self) -> KalmanTrack:
        x = self.x.copy()
        if x[2] + x[6] <= 0:  # an area cannot become negative
            x[6] = 0
        hits = self.hits if self.missed == 0 else 0
        return KalmanTrack(F @ x, F @ self.P @ F.T + Q, hits, self.missed + 1, self.age + 1)

    def updated(self, box: np.ndarray) -> KalmanTrack:
        gain = self.P @ H.T @ np.linalg.inv(H @ self.P @ H.T + R)
        x = self.x + gain @ (measured(box) - H @ self.x)
        return KalmanTrack(x, (np.eye(7) - gain @ H) @ self.P, self.hits + 1, 0, self.age)


@dataclass(frozen=True)
class SORT:
    """All tracks of a scene in which one box at most is detected a frame."""

    tracks: tuple[KalmanTrack, ...] = ()
    frame: int = 0

    def step(self, box: np.ndarray | None, config: SORTConfig) -> tuple[SORT, np.ndarray | None]:
        """One frame on, with what was detected in it: the tracks, and the box of the one that has it, if confirmed."""
        tracks, frame = [track.predicted() for track in self.tracks], self.frame + 1
        tracks = [track for track in tracks if np.isfinite(boxed(track.x)).all()]  # as the release deletes them
        if box is not None:
            overlap = [B.iou(boxed(track.x), box) for track in tracks]
            best = int(np.argmax(overlap)) if overlap else -1
            if best >= 0 and overlap[best] >= config.iou:
                tracks[best] = tracks[best].updated(box)
            else:
                tracks.append(KalmanTrack.begun(box))
        sure = (t for t in tracks if t.missed < 1 and (t.hits >= config.min_hits or frame <= config.min_hits))
        answer = next((boxed(track.x) for track in sure), None)
        if answer is None and tracks and config.unsure == "predicted":
            answer = boxed(max(tracks, key=lambda track: track.age).x)
        return SORT(tuple(t for t in tracks if t.missed <= config.max_age), frame), answer


@dataclass(frozen=True)
class SORTConfig(ROLOConfig):
    iou: float = 0.3  # of a prediction and a detection that are one
    max_age: int = 1  # frames without a detection that a track survives
    min_hits: int = 3  # detections in a row that make a track
    # What is answered without a confirmed track: "last", its last box; "nothing", an empty one, as in ROLO's release;
    # "predicted", where the oldest track is thought to be, as long as `max_age` lets it live.
    unsure: str = "last"

    def __post_init__(self):
        super().__post_init__()
        bounded(self, iou=(0, 1), max_age=(0, inf), min_hits=(0, inf))
        if self.unsure not in ("last", "nothing", "predicted"):
            raise ValueError(f"unsure is 'last', 'nothing' or 'predicted', not {self.unsure!r}")


@dataclass
class SORTState(State):
    target: TargetState
    sorts: list[SORT]
    box: torch.Tensor  # (B, 4) the last answer that was a track's, in pixels


class YOLOSORTTracker:
    """YOLO's detections by ROLO's association, and a Kalman filter in the place of its memory."""

    def __init__(
        self,
        net: YOLO,
        config: SORTConfig = SORTConfig(),
        name: str = "yolo-sort",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.name, self.config, self.device, self.dtype = name, config, torch.device(device), dtype
        self.detector, self.keep_maps = Detector(net, config, self.device, dtype), False

    def init(self, frames: Frames, boxes: torch.Tensor) -> SORTState:
        sorts = [SORT().step(box, self.config)[0] for box in boxes.double().cpu().numpy()]
        return SORTState(self.detector.start(frames, boxes), sorts, boxes.clone())

    def track(self, state: SORTState, frames: Frames) -> tuple[SORTState, Output]:
        """One frame on. Scores are the detection's, 0 where there is none."""
        target, _, scores, found = self.detector.follow(state.target, frames)
        sizes = frames.sizes(target.box)
        detected = (target.box * sizes.repeat(1, 2)).double().cpu().numpy()
        seen = [box if hit else None for box, hit in zip(detected, found.tolist(), strict=True)]
        sorts, told = zip(*(s.step(box, self.config) for s, box in zip(state.sorts, seen, strict=True)), strict=True)
        box = state.box.clone()
        for lane in (lane for lane, answer in enumerate(told) if answer is not None):
            box[lane] = torch.as_tensor(told[lane], dtype=box.dtype)
        box, shown = in_frame(box, sizes), torch.tensor([answer is not None for answer in told], device=box.device)
        output = Output(torch.where(shown[:, None] | (self.config.unsure != "nothing"), box, 0 * box), scores)
        return SORTState(target, list(sorts), box), output
