"""Figures of the channels on a generator whose channels are known."""

import pytest
import torch

from decomp.evaluation.channel_figures import ChannelFigures, as_jpeg
from decomp.generator import Output


def generator(x, y):
    """Channels: the photo; the same picture in every photo; one that hangs on the target class."""
    b, _, h, w = x.shape
    fixed = torch.linspace(-1, 1, w).expand(b, 3, h, w)
    of_class = torch.where((y == 0)[:, None, None, None], x.flip(2), -x)
    channels = torch.stack([0.5 * x, 0.5 * fixed, 0.05 * of_class], 1)
    return Output(x - channels.sum(1), channels, channels)


def photos(n=6):
    torch.manual_seed(0)
    small = torch.rand(n, 3, 8, 8) * 1.6 - 0.8
    return torch.nn.functional.interpolate(small, (64, 64), mode="bicubic").clamp(-1, 1), torch.zeros(
        n, dtype=torch.long
    )


def test_figures_tell_the_channels_apart():
    x, y = photos()
    all_figures = ChannelFigures(generator, lambda a, b: float((a - b).abs().mean()))
    for part in (slice(0, 4), slice(4, 6)):
        output = generator(x[part], y[part])
        all_figures.add(x[part], y[part], output)
        all_figures.add_next_class(output, generator(x[part], y[part] + 1))
    figures = all_figures.figures()
    assert figures["steadiness"]["mirror"][0] > 0.99 > 0.5 > figures["steadiness"]["mirror"][1]
    assert figures["steadiness"]["JPEG 85"][0] > 0.99
    assert figures["steadiness"]["next class"][0] > 0.99 > 0.5 > figures["steadiness"]["next class"][2]
    assert figures["stamp"][1] == pytest.approx(1, abs=1e-3) and abs(figures["stamp"][0]) < 0.2
    assert sum(figures["energy_share"]) == pytest.approx(1, abs=1e-3)
    assert figures["least"]["mirror"] == min(figures["steadiness"]["mirror"])
    assert figures["weakest_to_strongest"] < 0.2
    assert figures["effect"]["0"][0] > 5 * figures["effect"]["0"][2] and figures["visible"] == 2
    change = figures["colour_change"]["0"]
    assert change[0] > 10 > 2 * change[2] > 0 and figures["noticed"] >= 2


def test_without_a_judge_there_is_no_effect():
    x, y = photos(2)
    all_figures = ChannelFigures(generator, None)
    all_figures.add(x, y, generator(x, y))
    assert "effect" not in all_figures.figures() and "next class" not in all_figures.figures()["steadiness"]


def test_jpeg_changes_a_photo_a_little():
    x, _ = photos(2)
    assert 0 < (as_jpeg(x) - x).abs().mean() < 0.03
