import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d

from decomp.config import ModelConfig
from decomp.diffusion import Diffusivity, GaussianSplit, LearntDiffusion, build_split, gaussian
from decomp.metrics import total_variation


class Scaled(torch.nn.Module):
    """A p that is neither trained nor anchored, of a given strength."""

    def __init__(self, strength):
        super().__init__()
        self.p, self.strength = Diffusivity(1.0, anchor=False), strength

    def forward(self, u):
        return self.strength * self.p(u)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(1, 12),
    dt=st.floats(0.01, 2.0),
    half_h=st.integers(2, 12),
    half_w=st.integers(2, 12),
    strength=st.floats(0.1, 2.0),
    double=st.booleans(),
)
def test_photo_is_residual_plus_phi(seed, steps, dt, half_h, half_w, strength, double):
    torch.manual_seed(seed)
    dtype = torch.float64 if double else torch.float32
    split = LearntDiffusion(Scaled(strength), steps, dt).to(dtype)
    x = torch.rand(2, 3, 2 * half_h, 2 * half_w, dtype=dtype) * 2 - 1
    with torch.no_grad():
        out = split(x)
    assert out.phi.shape == (2, steps, 3, 2 * half_h, 2 * half_w)
    # relative to the largest number that entered the sum
    size = max(1.0, float(out.phi.abs().max()), float(out.residual.abs().max()))
    tolerance = 1e-12 if double else 1e-5
    assert float((out.residual + out.phi.sum(1) - x).abs().max()) <= tolerance * size


def test_every_pixel_matters_not_only_the_sum():
    """The identity would also hold for phi = 0, R = x: a p that acts must move energy out of R."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    out = LearntDiffusion(Diffusivity(1.0), 9)(x)
    assert total_variation(out.residual) < 0.3 * total_variation(x)
    assert (out.phi.square().mean(dim=(0, 2, 3, 4)) > 1e-6).all()


def test_anchored_p_starts_at_heat_flow():
    x = torch.rand(1, 3, 24, 40, dtype=torch.float64)
    p = Diffusivity(1.5).double()
    assert torch.equal(p(x), x - gaussian(x, 1.5))


@pytest.mark.parametrize("h, w, sigma", [(9, 200, 2.0), (64, 65, 6.0), (130, 128, 0.4), (3, 1000, 50.0)])
def test_gaussian_is_the_mirrored_convolution(h, w, sigma):
    x = torch.rand(2, 3, h, w, dtype=torch.float64, requires_grad=True)
    radius = min(round(3 * sigma), min(h, w) - 1)
    expected = gaussian_blur2d(x, 2 * radius + 1, (sigma, sigma))
    assert torch.allclose(gaussian(x, sigma), expected, atol=1e-12)
    gradients = [torch.autograd.grad((y**3).sum(), x)[0] for y in (gaussian(x, sigma), expected)]
    assert torch.allclose(*gradients, atol=1e-11)


def test_matrices_made_in_inference_can_be_trained_with():
    with torch.inference_mode():
        gaussian(torch.rand(1, 3, 33, 47), 1.25)
    x = torch.rand(1, 3, 33, 47, requires_grad=True)
    gaussian(x, 1.25).sum().backward()
    assert x.grad.isfinite().all()


def test_heat_flow_has_the_transfer_function_of_the_derivation():
    """With p = u - G u, R = (1 + M (1 - g)) g^M x for a wave whose Gaussian gain is g."""
    wave = torch.cos(torch.arange(512, dtype=torch.float64) * 2 * torch.pi / 16)
    x = wave.expand(1, 3, 64, 512).contiguous()
    steps = 4
    out = LearntDiffusion(Diffusivity(2.0).double(), steps)(x)
    middle = slice(128, 384)  # away from the borders
    g = float((gaussian(x, 2.0)[..., middle] / x[..., middle].clamp_min(0.5))[..., ::16].mean())
    expected = (1 + steps * (1 - g)) * g**steps
    assert torch.allclose(out.residual[..., middle], expected * x[..., middle], atol=1e-9)


def test_size_of_p_is_the_papers():
    p = Diffusivity(2.0)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in p.modules()) == 8
    assert sum(w.numel() for w in p.parameters()) == pytest.approx(4.05e4, rel=0.01)


def test_gaussian_variant_feeds_the_photo_to_every_branch():
    split = build_split(ModelConfig(split="gaussian", sigma=3.0, branches=4))
    assert isinstance(split, GaussianSplit)
    x = torch.rand(1, 3, 32, 32)
    out = split(x)
    assert all(torch.equal(phi, x) for phi in out.phi.unbind(1))
    assert total_variation(out.residual) < 0.3 * total_variation(x)


def test_config_names_what_it_accepts():
    with pytest.raises(ValueError, match="'learnt', 'gaussian'"):
        ModelConfig(split="wavelet")
    with pytest.raises(ValueError, match="unknown model settings.*'widht'"):
        ModelConfig.from_dict({"widht": 3})


@pytest.mark.parametrize(
    "values",
    [
        {"dt": float("nan")},
        {"size": "64"},
        {"size": 10**6},
        {"branches": 0},
        {"sigma": -2.0},
        {"domains": "ab"},
        {"domains": []},
        {"face": ["dog", "cat", "cat"]},
        {"face": ["cat"]},
    ],
)
def test_a_hostile_config_is_refused(values):
    with pytest.raises(ValueError, match="accepted|needed"):
        ModelConfig.from_dict(values)
