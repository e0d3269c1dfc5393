"""The real trainer at toy size on crops of real photos."""

import json

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from decomp.config import ModelConfig
from decomp.generator import BranchedGenerator
from decomp.training import TrainConfig, Trainer, cancellation, r1_penalty

MODEL = ModelConfig(domains=("cat", "person"), size=32, branches=3, base=4, cap=8, downs=2, style=8, sigma=1.0)
CONFIG = TrainConfig(images=48, batch=4, tick=16, critic_base=4, critic_cap=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for domain, photo in [("cat", skimage.data.cat()), ("person", skimage.data.astronaut())]:
        for split in ("train", "val"):
            (root / split / domain).mkdir(parents=True)
            for i in range(16):
                top, left = rng.integers(0, 200, 2)
                Image.fromarray(photo[top : top + 96, left : left + 96]).save(root / split / domain / f"{i}.jpg")
    return root


def test_resumed_run_equals_an_uninterrupted_one(data, tmp_path):
    Trainer(MODEL, CONFIG, data, tmp_path / "whole").run()
    Trainer(MODEL, TrainConfig(**(vars(CONFIG) | {"images": 24})), data, tmp_path / "parts").run()
    Trainer(MODEL, CONFIG, data, tmp_path / "parts").run()
    whole, parts = (BranchedGenerator.from_pretrained(tmp_path / n).state_dict() for n in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (tmp_path / "parts" / "samples" / "0000048.png").exists()


def test_stats_are_written_at_every_tick(data, tmp_path):
    Trainer(MODEL, CONFIG, data, tmp_path).run()
    rows = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [16, 32, 48]
    assert {"tv_ratio", "x_minus_residual", "rms_channels", "rms_phi", "active", "channel_correlation"} <= set(rows[0])


def test_fidelity_pulls_the_picture_to_the_photo(data, tmp_path):
    config = TrainConfig(**(vars(CONFIG) | {"images": 400, "tick": 80, "fidelity": ((0, 20.0),), "lr": 2e-3, "smooth": 0}))
    Trainer(MODEL, config, data, tmp_path).run()
    rows = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert rows[-1]["fidelity"] < 0.8 * rows[0]["fidelity"]


def test_schedule():
    config = TrainConfig(fidelity=((0, 0.3), (10, 0.3), (20, 2.3)))
    assert [config.weight("fidelity", i) for i in (0, 10, 15, 99)] == pytest.approx([0.3, 0.3, 1.3, 2.3])


def test_r1_is_half_the_squared_gradient():
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert r1_penalty((3 * x).sum(dim=(1, 2, 3)), x).item() == pytest.approx(0.5 * 9 * 48)


def test_empty_domain_is_named(data, tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="cat holds no photos"):
        Trainer(MODEL, CONFIG, tmp_path, tmp_path / "run")


def test_cancellation_is_what_branches_undo():
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 3, 64, 64)
    assert cancellation(torch.stack([a, -a], 1)).item() == pytest.approx(2 * a.square().mean().item(), rel=1e-4)
    assert cancellation(torch.stack([a, a], 1)).item() == 0
    assert cancellation(torch.stack([a, b], 1)).item() < 0.05
