"""A one-layer LSTM that regresses a box from a short history of features: SiaMemory's and ROLO's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

READOUTS = ("linear", "slice")
GATES = ("tanh", "sigmoid")


class SequenceRegressor(nn.Module):
    """Windows `(B, T, inputs)` to boxes `(B, 4)`, the state zero before each window (as ROLO trains and SiaMemory's
    text leaves open).

    hidden:  size of the LSTM's state; by default that of the input
    readout: "linear", a layer from the state to four numbers; "slice", ROLO's: four of the state's own numbers, those
             that end `offset` before its last
    gate:    what g, the new memory, passes: "tanh", as in every LSTM; "sigmoid", as ROLO's Eq. 2 prints it (R4)
    Gates in torch's order i, f, g, o; two biases a gate, which add up."""

    def __init__(
        self, inputs: int, hidden: int | None = None, readout: str = "linear", offset: int = 0, gate: str = "tanh"
    ):
        super().__init__()
        if readout not in READOUTS or gate not in GATES:
            known = f"readout is one of {', '.join(READOUTS)} and gate one of {', '.join(GATES)}"
            raise ValueError(f"{known}, not {readout!r} and {gate!r}")
        hidden, self.gate = hidden or inputs, gate
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 4) if readout == "linear" else None
        self.slice = slice(hidden - 4 - offset, hidden - offset)

    def initialise(self, generator: torch.Generator) -> SequenceRegressor:
        """Uniform in +-1 / sqrt(hidden), torch's own start, from the given generator; the forget gate's bias of the
        input is 1."""
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
        return self.lstm(windows)[0] if self.gate == "tanh" else self._printed(windows)

    def _printed(self, windows: Tensor) -> Tensor:
        """ROLO's Eq. 2 as printed, and the line it leaves out: c_t = f c_{t-1} + i g."""
        net = self.lstm
        read = windows @ net.weight_ih_l0.T + net.bias_ih_l0 + net.bias_hh_l0
        h = c = read.new_zeros(len(read), net.hidden_size)
        states = []
        for one in read.unbind(1):
            i, f, g, o = (one + h @ net.weight_hh_l0.T).sigmoid().chunk(4, -1)
            c = f * c + i * g
            h = o * c.tanh()
            states.append(h)
        return torch.stack(states, 1)

    def boxes(self, states: Tensor) -> Tensor:
        """Boxes `(..., 4)` of states `(..., hidden)`."""
        return states[..., self.slice] if self.readout is None else self.readout(states)

    def forward(self, windows: Tensor) -> Tensor:
        """Boxes `(B, 4)` after windows `(B, T, inputs)`."""
        return self.boxes(self.states(windows)[:, -1])
