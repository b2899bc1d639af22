"""HOG against the definition written out, pixel by pixel and cell by cell."""

import math

import numpy as np
import pytest
import torch

from trackerlib.nn.hog import fhog


def written_out(image: np.ndarray, cell: int, n: int) -> np.ndarray:
    """Felzenszwalb's features in the binning of Piotr Dollar's toolbox, by loops."""
    rows, columns = (side // cell for side in image.shape)
    dy, dx = np.gradient(image)
    signed = np.zeros((2 * n, rows, columns))
    for y in range(rows * cell):
        for x in range(columns * cell):
            angle = math.atan2(dy[y, x], dx[y, x]) % (2 * math.pi)
            bin = int(angle / (2 * math.pi) * 2 * n + 0.5) % (2 * n)
            size = math.hypot(dy[y, x], dx[y, x]) / cell**2
            v, u = (y + 0.5) / cell - 0.5, (x + 0.5) / cell - 0.5
            for j in (math.floor(v), math.floor(v) + 1):
                for i in (math.floor(u), math.floor(u) + 1):
                    if 0 <= j < rows and 0 <= i < columns:
                        signed[bin, j, i] += size * (1 - abs(v - j)) * (1 - abs(u - i))
    signed[:, 0], signed[:, -1] = signed[:, 0] * 8 / 7, signed[:, -1] * 8 / 7
    signed[:, :, 0], signed[:, :, -1] = signed[:, :, 0] * 8 / 7, signed[:, :, -1] * 8 / 7
    unsigned = signed[:n] + signed[n:]
    energy = (unsigned**2).sum(0)
    out = np.zeros((3 * n + 4, rows, columns))
    for y in range(rows):
        for x in range(columns):
            for k, (below, right) in enumerate(((1, 1), (0, 1), (1, 0), (0, 0))):
                top = min(max(y - 1 + below, 0), rows - 2)
                left = min(max(x - 1 + right, 0), columns - 2)
                scale = 1 / math.sqrt(energy[top : top + 2, left : left + 2].sum() + 1e-4 / 4 / cell**4)
                clipped = np.minimum(signed[:, y, x] * scale, 0.2)
                out[: 2 * n, y, x] += clipped / 2
                out[2 * n : 3 * n, y, x] += np.minimum(unsigned[:, y, x] * scale, 0.2) / 2
                out[3 * n + k, y, x] = 0.2357 * clipped.sum()
    return out


@pytest.mark.parametrize(("shape", "cell", "orientations"), [((24, 32), 4, 9), ((27, 22), 4, 9), ((16, 16), 2, 6)])
def test_it_is_the_definition(shape, cell, orientations):
    image = np.random.default_rng(0).random(shape)
    found = fhog(torch.tensor(image), cell, orientations).numpy()
    np.testing.assert_allclose(found, written_out(image, cell, orientations), atol=1e-12)


def test_an_upright_edge_has_its_energy_in_one_orientation():
    image = torch.zeros(32, 32)
    image[:, 16:] = 1
    features = fhog(image)
    assert features.shape == (31, 8, 8)
    at_edge = features[:, 4, 4]
    assert at_edge[:18].argmax() == 0  # brighter to the right
    assert at_edge[18:27].argmax() == 0
    assert features[:27, :, 0].abs().max() == 0


def test_it_does_not_know_contrast():
    image = torch.rand(32, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fhog(image), fhog(0.5 * image + 0.2), atol=2e-3, rtol=0)


def test_an_image_without_two_cells_is_refused():
    with pytest.raises(ValueError, match="no two cells of 4 pixels"):
        fhog(torch.zeros(7, 40))
