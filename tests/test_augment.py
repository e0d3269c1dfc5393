import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from decomp import PerturbChannels
from decomp.augment import spreads
from decomp.channels import ChannelFacts


def test_no_spread_is_the_identity(toy):
    x = torch.rand(2, 3, 40, 40)
    assert torch.allclose(PerturbChannels(toy, "cat", spread=0)(x), x, atol=1e-6)


def test_change_lies_in_the_channels(toy):
    torch.manual_seed(1)
    x = 0.5 + torch.zeros(1, 3, 32, 32) + 0.05 * torch.randn(1, 3, 32, 32)
    changed = PerturbChannels(toy, "cat", spread=0.1)(x)
    assert not torch.allclose(changed, x, atol=1e-3)
    basis = toy.generator(x * 2 - 1, torch.tensor([0])).channels[0].flatten(1)  # (M, N)
    difference = 2 * (changed - x).flatten()
    left = difference - basis.mT @ torch.linalg.lstsq(basis.mT, difference[:, None]).solution[:, 0]
    assert left.norm() < 1e-3 * difference.norm()


def test_each_photo_is_changed_differently(toy):
    x = torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1) * 0.2 + 0.4
    a, b = PerturbChannels(toy, spread=0.3)(x)
    assert not torch.allclose(a, b, atol=1e-3)


def test_in_a_torchvision_pipeline(toy):
    pipeline = v2.Compose([v2.RandomHorizontalFlip(), PerturbChannels(toy, "dog")])
    out = pipeline(torch.rand(3, 36, 36))
    assert out.shape == (3, 36, 36) and out.min() >= 0 and out.max() <= 1


def test_masks_and_boxes_are_left_alone(toy):
    photo, mask = tv_tensors.Image(torch.rand(3, 36, 36)), tv_tensors.Mask(torch.rand(3, 36, 36))
    boxes = tv_tensors.BoundingBoxes([[1, 2, 3, 4]], format="XYXY", canvas_size=(36, 36))
    changed, same_mask, same_boxes = PerturbChannels(toy, "cat")(photo, mask, boxes)
    assert type(changed) is tv_tensors.Image and not torch.equal(changed, photo)
    assert torch.equal(same_mask, mask) and torch.equal(same_boxes, boxes)


def test_bad_options(toy):
    with pytest.raises(TypeError, match="float tensor"):
        PerturbChannels(toy)(torch.zeros(3, 36, 36, dtype=torch.uint8))
    with pytest.raises(ValueError, match="from 0 up"):
        PerturbChannels(toy, spread=float("nan"))
    with pytest.raises(ValueError, match="from 0 up"):
        PerturbChannels(toy, spread=-1)
    with pytest.raises(ValueError, match="accepted: cat, dog"):
        PerturbChannels(toy, domain="cow")


def test_spread_by_layer(toy):
    x = 0.5 + 0.05 * torch.randn(1, 3, 32, 32)
    layers = toy.generator(x * 2 - 1, torch.tensor([0]))
    torch.manual_seed(1)
    changed = PerturbChannels(toy, "cat", spread={2: 0.1, "residual": 0.02})(x)
    basis = torch.stack([layers.residual, layers.channels[:, 1]]).flatten(1)  # (2, N)
    difference = 2 * (changed - x).flatten()
    left = difference - basis.mT @ torch.linalg.lstsq(basis.mT, difference[:, None]).solution[:, 0]
    assert difference.norm() > 0.01 and left.norm() < 1e-3 * difference.norm()


def test_spread_by_kind(toy):
    named = {"a": "hue", "b": "light", "c": "hue"}
    toy.facts = ChannelFacts(roles=tuple({"name": name, "kind": kind} for name, kind in named.items()))
    assert spreads(toy, {"hue": 0.3, "unexplained": 0.2}).tolist() == pytest.approx([0, 0.3, 0, 0.3, 0.2])
    with pytest.raises(ValueError, match="no channel of this model carries eyes"):
        spreads(toy, {"eyes": 1})
    with pytest.raises(ValueError, match="there is no channel 9"):
        spreads(toy, {9: 1})
