"""A one-layer LSTM that regresses a box from a short history of features: SiaMemory's and ROLO's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

READOUTS = ("linear", "slice")


class SequenceRegressor(nn.Module):
    """Windows `(B, T, inputs)` to boxes `(B, 4)`, the state zero before each window (as ROLO trains and SiaMemory's
    text leaves open).

    hidden:  size of the LSTM's state; by default that of the input
    readout: "linear", a layer from the state to four numbers; "slice", ROLO's: four of the state's own numbers, those
             that end `offset` before its last
    Gates in torch's order i, f, g, o; two biases a gate, which add up."""

    def __init__(self, inputs: int, hidden: int | None = None, readout: str = "linear", offset: int = 0):
        super().__init__()
        if readout not in READOUTS:
            raise ValueError(f"readout is one of {', '.join(READOUTS)}, not {readout!r}")
        hidden = hidden or inputs
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 4) if readout == "linear" else None
        self.slice = slice(hidden - 4 - offset, hidden - offset)

    def initialise(self, generator: torch.Generator) -> SequenceRegressor:
        """Uniform in +-1 / sqrt(hidden), torch's own start, from the given generator; forgetting begins at a half more:
        its bias is 1."""
        bound = self.lstm.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        with torch.no_grad():
            self.lstm.bias_ih_l0[self.lstm.hidden_size : 2 * self.lstm.hidden_size] = 1
        return self

    @property
    def weights(self) -> list[Tensor]:
        """The matrices, without biases: what Tikhonov's term is of."""
        return [p for p in self.parameters() if p.ndim > 1]

    def states(self, windows: Tensor) -> Tensor:
        """h after each step, `(B, T, hidden)`."""
        return self.lstm(windows)[0]

    def boxes(self, states: Tensor) -> Tensor:
        """Boxes `(..., 4)` of states `(..., hidden)`."""
        return states[..., self.slice] if self.readout is None else self.readout(states)

    def forward(self, windows: Tensor) -> Tensor:
        return self.boxes(self.states(windows)[:, -1])
