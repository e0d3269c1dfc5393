from dataclasses import replace

import pytest
import torch

from decomp.config import ModelConfig
from decomp.generator import BranchedGenerator, instance_norm
from decomp.training.critics.discriminator import Discriminator, of_class


@pytest.mark.parametrize("h, w", [(32, 32), (33, 47), (50, 21), (8, 64)])
def test_any_size_and_the_sum(config, h, w):
    model = BranchedGenerator(config)
    x = torch.rand(2, 3, h, w) * 2 - 1
    out = model(x, torch.tensor([0, 1]))
    assert out.channels.shape == out.phi.shape == (2, 3, 3, h, w)
    assert torch.equal(out.image, out.residual + out.channels.sum(1))
    assert torch.allclose(out.residual + out.phi.sum(1), x, atol=1e-5)


def test_phi_keep_their_precision_under_autocast(config):
    """In bfloat16 the late phi's, k dt times small differences, would be rounding noise that the branches learn."""
    model = BranchedGenerator(config)
    torch.nn.init.normal_(model.split.p.cnn[-1].weight, std=0.05)
    x, y = torch.rand(1, 3, 32, 32), torch.tensor([0])
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x, y)
    assert torch.equal(low.phi, model(x, y).phi)
    assert low.channels.dtype == torch.bfloat16


def test_padding_is_cropped_away(config):
    """What lies inside must be what the network computes on the mirrored photo."""
    model = BranchedGenerator(config)
    x = torch.rand(1, 3, 30, 34)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 2), mode="reflect")
    y = torch.tensor([1])
    assert torch.equal(model(x, y).channels, model(padded, y).channels[..., :30, :34])


def test_too_small(config):
    with pytest.raises(ValueError, match="at least 8 x 8"):
        BranchedGenerator(config)(torch.zeros(1, 3, 7, 20), torch.tensor([0]))


@pytest.mark.parametrize("photos", [(), (3,)], ids=["one scale", "a scale a photo"])
def test_instance_norm_in_training_is_that_of_use(photos):
    x = torch.rand(3, 4, 9, 7, requires_grad=True)
    scale, shift = (torch.rand(*photos, 4, requires_grad=True) for _ in range(2))
    trained = instance_norm(x, scale, shift)
    with torch.no_grad():
        assert torch.allclose(trained, instance_norm(x, scale, shift), atol=1e-5)
    plain = (x - x.mean(dim=(2, 3), keepdim=True)) / (x.var(dim=(2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    plain = scale[..., None, None] * plain + shift[..., None, None]
    weights = torch.rand_like(plain)
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), (x, scale, shift)) for y in (trained, plain))):
        assert torch.allclose(a, b, atol=1e-4)


def test_class_per_branch(toy):
    model, x = toy.generator, torch.rand(1, 3, 32, 32)
    both = {y: model(x, torch.tensor([y])).channels for y in (0, 1)}
    assert not torch.allclose(both[0], both[1], atol=1e-3)
    mixed = model(x, torch.tensor([[0, 1, 0]])).channels
    for k, y in enumerate((0, 1, 0)):
        assert torch.allclose(mixed[:, k], both[y][:, k], atol=1e-6)


def test_a_turn_begins_as_the_identity_and_is_for_turned_photos_alone(config):
    torch.manual_seed(0)
    model, x = BranchedGenerator(replace(config, turns=2)).eval(), torch.rand(3, 3, 32, 32)
    source, target = torch.tensor([0, 1, 0]), torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])  # the third is kept
    before = model(x, target).channels
    assert torch.allclose(model(x, target, source=source).channels, before, atol=1e-5)
    for branch in model.branches:
        for block in branch.turn.blocks:
            torch.nn.init.normal_(block.conv2.weight)
    assert torch.equal(model(x, target).channels, before)  # without a source, no photo is turned
    after = model(x, target, source=source).channels
    changed = (after - before).abs().amax(dim=(2, 3, 4)) > 1e-5
    assert changed.tolist() == (source[:, None] != target).tolist()
    assert torch.allclose(model(x[1:2], target[1:2], source=source[1:2]).channels, after[1:2], atol=1e-5)


def test_branches_differ_by_initialisation_only(config):
    branches = BranchedGenerator(config).branches
    shapes = [[tuple(p.shape) for p in b.parameters()] for b in branches]
    assert shapes[0] == shapes[1] == shapes[2]
    assert not torch.equal(branches[0].from_rgb.weight, branches[1].from_rgb.weight)


def test_training_starts_near_the_residual():
    model = BranchedGenerator(ModelConfig())
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    out = model(x, torch.tensor([0]))
    assert out.channels.square().mean() < 0.25


def test_every_branch_learns(config):
    model = BranchedGenerator(config)
    model(torch.rand(2, 3, 32, 32), torch.tensor([0, 1])).image.square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # a bias before an instance norm has no gradient but rounding; p's inner layers wait for its last to leave zero
    assert not [n for n in silent if n.endswith("weight") and not n.startswith("split")]


def test_released_size_is_the_slim_width_of_the_method_notes():
    model = BranchedGenerator(ModelConfig())
    per_branch = sum(p.numel() for p in model.branches[0].parameters())
    assert 0.3e6 < per_branch < 0.6e6


def test_discriminator_label_picks_one_head():
    d = Discriminator(32, 3, 8, 32)
    x = torch.rand(3, 3, 32, 32)
    logits = d(x)
    assert logits.shape == (3, 3)
    apart = torch.cat([d(x[i : i + 1]) for i in range(3)])
    assert torch.allclose(logits, apart, atol=1e-5)
    assert of_class(logits, torch.tensor([1, 2, 0])).tolist() == [logits[0, 1], logits[1, 2], logits[2, 0]]


def test_discriminator_size():
    with pytest.raises(ValueError, match="power of two"):
        Discriminator(96, 2, 8, 32)
