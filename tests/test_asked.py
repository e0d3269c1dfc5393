"""Content that channels are asked for: cells, the code, the term, the trainer's checks."""

import pytest
import torch

from decomp.training.asked import BANDS, CELLS, FLOOR, REGION, asked, code_of, energies
from decomp.training.trainer import TrainConfig


def spot(cx: float, cy: float, value: float = 1.0) -> torch.Tensor:
    """A grey disc of 8 pixels on nothing, one channel of one photo of 128 pixels."""
    y, x = torch.meshgrid(*[torch.arange(128) / 128] * 2, indexing="ij")
    disc = ((x - cx) ** 2 + (y - cy) ** 2 < (8 / 128) ** 2).float() * value
    return disc.expand(1, 1, 3, 128, 128)


def share(channels: torch.Tensor) -> dict[str, float]:
    found = energies(channels)[0, 0]
    return dict(zip(CELLS, (found / found.sum()).tolist()))


@pytest.mark.parametrize("where", REGION)
def test_spots_at_the_eyes_and_the_nose(where):
    found = share(spot(*where[:2], value=-1))
    assert sum(value for cell, value in found.items() if cell.startswith("eyes")) > 0.95
    assert found["eyes dark"] > 0.5 > 0.15 > found["eyes bright"]
    assert share(spot(*where[:2]))["eyes bright"] > 0.5


def test_bands_elsewhere():
    torch.manual_seed(0)
    noise = torch.randn(1, 1, 1, 128, 128).expand(-1, -1, 3, -1, -1)
    assert share(noise)["rest fine"] > 0.7
    assert share(torch.full((1, 1, 3, 128, 128), 0.3))["rest light"] > 0.7
    assert share(torch.full((1, 1, 3, 128, 128), -0.3))["rest shade"] > 0.7
    orange = torch.tensor([1.0, 0.0, -1.0])[:, None, None].expand(1, 1, 3, 128, 128)
    assert share(orange)["rest hue"] > 0.7
    assert share(spot(0.15, 0.15, -1))["rest dark"] > 0.4


def test_the_term_is_what_was_not_asked_for():
    channels = torch.cat([spot(0.35, 0.46, -1), spot(0.1, 0.1)], dim=1)
    right = code_of(("eyes dark, eyes fine, eyes shade", "rest bright, rest fine, rest light"))
    assert asked(channels, right).item() < 0.25
    assert asked(channels, right.flip(0)).item() > 0.9
    assert asked(channels, torch.ones(2, len(CELLS))).item() == 0


def test_a_channel_that_falls_silent_costs():
    all_cells, spots = torch.ones(2, len(CELLS)), torch.cat([spot(0.35, 0.46, -1), spot(0.1, 0.1)], dim=1)
    faint = torch.tensor([1.0, FLOOR**0.5 / 2])[None, :, None, None, None]
    assert 0.2 < asked(spots * faint, all_cells).item() < 0.5  # a quarter of the floor, of one channel of two


def test_code():
    code = code_of(("eyes fine, rest hue",))
    assert code.shape == (1, 2 * len(BANDS)) and code.sum() == 2
    for wrong in ("", "eyes", "fur"):
        with pytest.raises(ValueError, match="accepted, divided by commas: eyes fine"):
            code_of((wrong,))


def test_settings():
    assert TrainConfig.from_dict({"asked": 3, "asked_for": ["rest fine"]}).asked_for == ("rest fine",)
    with pytest.raises(ValueError, match="asked_for is"):
        TrainConfig.from_dict({"asked_for": 3.5})
