"""Channels drawn by hand get the names that a person would give them."""

import math

import pytest
import torch

from decomp.evaluation import roles


def waves(angle: float, period: float, side: int = 128) -> torch.Tensor:
    """Strokes at an angle in degrees from vertical, "/" being 45: (side, side)."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    a = math.radians(angle)
    return torch.sin(2 * math.pi * (x * math.cos(a) + y * math.sin(a)) / period)


def measured(picture: torch.Tensor) -> dict:
    """Figures of one channel (3, h, w) beside a second one that keeps it active."""
    v = torch.stack([picture, picture.roll(1, -1)])[None]
    return roles.measure(v, ["cat"], {"cat": "cat"})[0]


@pytest.mark.parametrize("angle, word", [(0, "vertical"), (45, "rising"), (90, "horizontal"), (135, "falling")])
def test_direction(angle, word):
    f = measured(waves(angle, 6).expand(3, -1, -1))
    assert f["coherence"] > 0.9 and f["wavelength"] == pytest.approx(6, rel=0.15)
    assert roles.describe(f, 128) == f"fine {word} strokes"


def test_wavelength_does_not_depend_on_orientation():
    mixed = (waves(90, 32) + waves(0, 4))[None]
    assert roles.wavelength(mixed) == pytest.approx(roles.wavelength(mixed.mT.contiguous()), rel=1e-3)


def test_hue():
    spot = torch.zeros(128, 128)
    spot[::16, ::16] = 1
    orange = torch.tensor([1.0, 0.5, 0.0]) - 0.5
    f = measured(orange[:, None, None] * spot)
    assert f["lightness"] < 0.1 and f["hue"] == "orange"
    assert roles.describe(f, 128) == "orange against blue"


def test_bright_and_dark_spots():
    torch.manual_seed(0)
    spots = (torch.rand(128, 128) > 0.97).float()
    assert "bright patches" in roles.describe(measured(spots.expand(3, -1, -1)), 128)
    assert "dark patches" in roles.describe(measured(-spots.expand(3, -1, -1)), 128)


def test_lines_and_light():
    torch.manual_seed(0)
    lines = torch.randn(128, 128).abs().neg()
    assert roles.describe(measured(lines.expand(3, -1, -1)), 128) == "fine dark lines"
    soft = torch.nn.functional.interpolate(torch.randn(1, 1, 4, 4), (128, 128), mode="bicubic")[0]
    assert roles.describe(measured(soft.expand(3, -1, -1)), 128).startswith("soft light")


def test_eyes():
    torch.manual_seed(0)
    mask = roles.zone_masks("cat", 128, 128)["eyes"]
    picture = torch.randn(128, 128) * mask
    assert roles.describe(measured(picture.expand(3, -1, -1)), 128).endswith(" at eyes")


def test_a_zone_is_named_as_often_as_it_is_true():
    torch.manual_seed(0)
    mask = roles.zone_masks("cat", 64, 64)["eyes"]
    at_eyes, anywhere = torch.randn(64, 64) * mask, 0.2 * torch.randn(64, 64)
    for times, words in ((10, " at eyes"), (6, " often at eyes"), (4, "")):
        v = torch.stack([at_eyes] * times + [anywhere] * (10 - times))[:, None, None].expand(10, 2, 3, 64, 64)
        figures = roles.measure(v, ["cat"] * 10, {"cat": "cat"})[0]
        assert figures["where"]["eyes"] > roles.AT_ZONE and roles.describe(figures, 64) == f"fine texture{words}"


def test_silent_and_unique():
    torch.manual_seed(0)
    noise = torch.randn(1, 1, 3, 64, 64) * torch.tensor([1, 1, 0.01])[None, :, None, None, None]
    named = [r["name"] for r in roles.name(roles.measure(noise, ["cat"], {"cat": "cat"}), 64)]
    assert named[2] == "silent" and named[1] == f"{named[0]} II"


def test_zones_are_measured_where_faces_are_framed():
    torch.manual_seed(0)
    mask = roles.zone_masks("cat", 64, 64)["eyes"]
    cat, dog = torch.randn(64, 64) * mask, torch.randn(64, 64)
    v = torch.stack([cat, dog])[:, None, None].expand(2, 2, 3, 64, 64)
    f = roles.measure(v, ["cat", "dog"], {"cat": "cat", "dog": "centre"})[0]
    assert f["where"]["eyes"] > 5
