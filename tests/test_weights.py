"""The released weights on free photos: what they do is held by figures and by small golden pictures.

After new weights: `python tests/test_weights.py` writes the golden pictures anew; look at the contact sheets first.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

from decomp import metrics
from decomp.decomposer import load
from decomp.weights import WEIGHTS, bundled

GOLDEN = Path(__file__).parent / "golden"
PHOTOS = {"animals": skimage.data.cat, "asked": skimage.data.cat, "faces": skimage.data.astronaut}
BOXES = {
    "animals": (75, 0, 300),
    "asked": (75, 0, 300),
    "faces": (148, 30, 153),
}  # fixed, as this is about weights and not about the search


@pytest.fixture(scope="module", params=sorted(PHOTOS))
def case(request):
    model = load(request.param)
    return request.param, model, model.decompose(PHOTOS[request.param](), box=BOXES[request.param], keep_phi=True)


def tensors(d):
    as_batch = lambda a: torch.from_numpy(a).movedim(-1, -3)[None]
    return as_batch(d.picture), as_batch(d.residual), as_batch(d.channels), as_batch(d.phi)


def thumbnails(d) -> np.ndarray:
    """(M, 16, 16, 3): each raised channel, small."""
    raised = np.stack([d.raised(c.index) for c in d.info])
    m, h, w, _ = raised.shape
    return raised.reshape(m, 16, h // 16, 16, w // 16, 3).mean(axis=(2, 4)).astype(np.float32)


def test_all_are_there_small_and_described():
    assert bundled() == sorted(PHOTOS)
    files = [WEIGHTS / name / "model.safetensors" for name in bundled()]
    assert all(f.stat().st_size < 20e6 for f in files) and sum(f.stat().st_size for f in files) < 60e6
    for name in bundled():
        card = (WEIGHTS / name / "README.md").read_text()
        assert "cc-by-nc-4.0" in card.lower() and "decomp train" in card


def test_sum_is_the_photo(case):
    _, _, d = case
    assert np.abs(d.residual + d.channels.sum(0) + d.unexplained - d.picture).max() <= 1e-5
    assert np.abs(d.residual + d.phi.sum(0) - d.picture).max() <= 1e-5


def test_the_cat_is_told(cat):
    d = load("animals").decompose(cat)
    assert d.domain == "cat" and d.confidence["cat"] > 0.5


def test_no_trap(case):
    """R = x and v_k = phi_k are the two ways to fail with healthy losses."""
    _, _, d = case
    x, residual, v, phi = tensors(d)
    assert 0.05 < metrics.total_variation(residual) / metrics.total_variation(x) < 0.6
    assert metrics.active(v).sum() >= 6
    assert metrics.channel_correlation(v) < 0.3
    assert metrics.linear_share(v, phi).mean() < 0.9


def test_roles_are_measured(case):
    _, model, d = case
    assert len(model.facts.roles) == model.config.branches == len(set(d.names))
    assert all(role["active"] != role["name"].startswith("silent") for role in model.facts.roles)


def test_figures_belong_to_these_weights(case):
    name, model, _ = case
    figures = json.loads((WEIGHTS / name / "figures.json").read_text())
    assert figures["sha256"] == hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
    assert figures["parameters"] == sum(p.numel() for p in model.generator.parameters())


def test_channels_look_as_they_did(case):
    name, _, d = case
    expected = np.load(GOLDEN / f"{name}.npy")
    for c, now, then in zip(d.info, thumbnails(d), expected):
        alike = np.corrcoef(now.ravel(), then.ravel())[0, 1]
        assert alike > 0.98, f"channel {c.index} ({c.name}) looks different: correlation {alike:.3f}"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, photo in PHOTOS.items():
        np.save(GOLDEN / f"{name}.npy", thumbnails(load(name).decompose(photo(), box=BOXES[name])).astype(np.float16))
