import numpy as np
import pytest
import torch

from decomp import metrics
from decomp.generator import Output


def test_total_variation_of_a_ramp():
    x = torch.arange(8.0).expand(1, 3, 8, 8)
    assert torch.allclose(metrics.total_variation(x), torch.ones(1))
    assert torch.allclose(metrics.total_variation(x.mT.contiguous()), torch.ones(1))


def test_a_branch_below_a_tenth_is_silent():
    v = torch.ones(1, 3, 3, 4, 4) * torch.tensor([1.0, 0.11, 0.09])[None, :, None, None, None]
    assert metrics.active(v).tolist() == [True, True, False]


def test_correlation_of_channels():
    torch.manual_seed(0)
    a, b = torch.randn(2, 2, 1, 3, 64, 64).unbind(0)
    assert metrics.channel_correlation(torch.cat([a, -2 * a], 1)) > 0.999
    assert metrics.channel_correlation(torch.cat([a, b], 1)) < 0.03
    silent = 0.01 * a
    assert metrics.channel_correlation(torch.cat([a, b, silent], 1)) < 0.03
    assert metrics.channel_correlation(torch.cat([a, silent], 1)) == 0


def test_filter_bank_is_recognised():
    """v_k = phi_k, or any mixture of the phi's, is a plain filter bank: linear share 1. What is new has share 0."""
    torch.manual_seed(0)
    phi, new = torch.randn(2, 4, 3, 3, 32, 32).unbind(0)
    mixed = torch.einsum("jk,bkchw->bjchw", torch.randn(3, 3), phi)
    assert (metrics.linear_share(mixed, phi) > 0.999).all()
    assert (metrics.linear_share(new, phi) < 0.02).all()
    half = (mixed / mixed.std() + new / new.std()) / 2
    assert abs(float(metrics.linear_share(half, phi).mean()) - 0.5) < 0.2
    assert (metrics.matched_correlation(phi, phi) > 0.999).all()
    assert (metrics.matched_correlation(new, phi).abs() < 0.03).all()


def test_mesh_is_energy_at_the_patches_frequencies():
    torch.manual_seed(0)
    v = torch.randn(8, 2, 3, 64, 64)
    assert (metrics.mesh(v) < 1.5).all()
    v[:, 1, :, ::2] += 0.5
    plain, meshed = metrics.mesh(v).tolist()
    assert plain < 1.5 < 5 < meshed


def test_steadiness_of_what_moves_with_the_photo():
    """The photo itself is steady; what hangs on the place, or on left and right, is not."""
    torch.manual_seed(0)
    x = metrics.smaller(torch.randn(2, 3, 128, 128), 0.25).repeat_interleave(8, 2).repeat_interleave(8, 3)

    def generator(x, y):
        ramp = torch.linspace(-1, 1, x.shape[-1])
        gradient = torch.nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
        return Output(x, torch.stack([x, x * ramp, gradient], 1), torch.stack([x, x, x], 1))

    y = torch.zeros(2, dtype=torch.long)
    steady = metrics.steadiness(generator, x, y, generator(x, y).channels)
    assert all(values[0] > 0.95 for values in steady.values())
    assert steady["mirror"][1] < -0.9 and steady["mirror"][2] < 0.5


def test_linear_share_is_that_of_least_squares():
    """Offsets, correlated inputs and unequal energies, against numpy's solver."""
    torch.manual_seed(0)
    phi = torch.randn(3, 4, 3, 16, 16) + 0.7
    phi[:, 1] += 0.9 * phi[:, 0]
    v = torch.randn(3, 4, 3, 16, 16) + 3 + torch.einsum("jk,bkchw->bjchw", torch.randn(4, 4), phi)
    rows = lambda t: t.permute(0, 3, 4, 1, 2).flatten(0, 2).flatten(1).double().numpy()
    inputs, targets = np.c_[rows(phi), np.ones(3 * 16 * 16)], rows(v)
    left = targets - inputs @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
    energy = lambda t: np.square(t - t.mean(axis=0)).sum(axis=0).reshape(-1, 3).sum(axis=1)
    assert np.allclose(metrics.linear_share(v, phi), 1 - energy(left) / energy(targets), atol=1e-5)


def test_linear_share_of_one_photo_for_all_branches():
    """Without a learnt diffusion every branch is fed the photo, so the inputs are M times the same."""
    torch.manual_seed(0)
    x = torch.randn(2, 1, 3, 16, 16)
    twice = x.repeat(1, 2, 1, 1, 1)
    assert (metrics.linear_share(twice * torch.tensor([1.0, -2.0])[:, None, None, None], twice) > 0.999).all()


def test_psnr():
    x = torch.zeros(1, 3, 8, 8)
    assert torch.allclose(metrics.psnr(x + 0.2, x), torch.tensor([20.0]))


@pytest.fixture
def photos_and_output():
    """Seven photos whose channels differ in energy, overlap, and change from photo to photo."""
    torch.manual_seed(0)
    x, r = torch.rand(2, 7, 3, 16, 16)
    phi = torch.randn(7, 4, 3, 16, 16)
    v = torch.randn(7, 4, 3, 16, 16) + phi.flip(1) + torch.randn(7, 1, 3, 16, 16) + 0.3
    v = v * torch.tensor([1.0, 0.5, 0.01, 0.2])[:, None, None, None]  # by channel
    v = v * torch.linspace(0.5, 2, 7)[:, None, None, None, None]  # and by photo
    return x, Output(r, v, phi)


def test_figures_in_batches_are_those_of_all_photos_at_once(photos_and_output):
    x, output = photos_and_output
    v, phi, r = output.channels, output.phi, output.residual
    batched = metrics.Summary()
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        batched.add(x[start:stop], Output(*(t[start:stop] for t in output)))
    found = batched.figures()
    assert found["rms_channels"] == pytest.approx(metrics.rms(v).tolist(), abs=1e-4)
    assert found["rms_phi"] == pytest.approx(metrics.rms(phi).tolist(), abs=1e-4)
    assert found["active"] == int(metrics.active(v).sum()) == 3
    assert found["channel_correlation"] == pytest.approx(float(metrics.channel_correlation(v)), abs=1e-5)
    assert found["input_correlation"] == pytest.approx(metrics.matched_correlation(v, phi).tolist(), abs=1e-4)
    assert found["linear_share"] == pytest.approx(metrics.linear_share(v, phi).tolist(), abs=1e-4)
    assert found["psnr"] == pytest.approx(float(metrics.psnr(output.image, x).mean()), abs=1e-4)
    assert found["l1"] == pytest.approx(float((output.image - x).abs().mean()), abs=1e-5)
    ratio = metrics.total_variation(r) / metrics.total_variation(x)
    assert found["tv_ratio"] == pytest.approx(float(ratio.mean()), abs=1e-5)
    at_once = metrics.summary(x, output)
    assert at_once.keys() == found.keys()
    assert all(at_once[key] == pytest.approx(found[key], abs=1e-4) for key in found)


def test_covariance_is_that_of_all_pixels(photos_and_output):
    x, output = photos_and_output
    summary = metrics.Summary()
    summary.add(x, output)
    flat = output.channels.transpose(0, 1).flatten(1).double().numpy()
    assert np.allclose(summary.moments.covariance(), np.cov(flat, bias=True), atol=1e-6)


def test_correlation_matrix_is_taken_within_each_photo():
    """A channel that is the other one's double in one photo and its negative in the next is fully correlated."""
    torch.manual_seed(0)
    a = torch.randn(2, 3, 8, 8)
    v = torch.stack([a, a * torch.tensor([2.0, -1.0])[:, None, None, None]], dim=1)
    summary = metrics.Summary()
    summary.add(torch.rand(2, 3, 8, 8), Output(torch.rand(2, 3, 8, 8), v, v))
    assert np.allclose(summary.correlation(), 1, atol=1e-5)
