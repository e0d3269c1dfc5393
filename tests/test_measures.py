import torch

from decomp import measures


def test_total_variation_of_a_ramp():
    x = torch.arange(8.0).expand(1, 3, 8, 8)
    assert torch.allclose(measures.total_variation(x), torch.ones(1))
    assert torch.allclose(measures.total_variation(x.mT.contiguous()), torch.ones(1))


def test_a_branch_below_a_tenth_is_silent():
    v = torch.ones(1, 3, 3, 4, 4) * torch.tensor([1.0, 0.11, 0.09])[None, :, None, None, None]
    assert measures.active(v).tolist() == [True, True, False]


def test_correlation_of_channels():
    torch.manual_seed(0)
    a, b = torch.randn(2, 2, 1, 3, 64, 64).unbind(0)
    assert measures.channel_correlation(torch.cat([a, -2 * a], 1)) > 0.999
    assert measures.channel_correlation(torch.cat([a, b], 1)) < 0.03


def test_filter_bank_is_recognised():
    """v_k = phi_k, or any mixture of the phi's, is the second trap: linear share 1. What is new has share 0."""
    torch.manual_seed(0)
    phi, new = torch.randn(2, 4, 3, 3, 32, 32).unbind(0)
    mixed = torch.einsum("jk,bkchw->bjchw", torch.randn(3, 3), phi)
    assert (measures.linear_share(mixed, phi) > 0.999).all()
    assert (measures.linear_share(new, phi) < 0.02).all()
    half = (mixed / mixed.std() + new / new.std()) / 2
    assert abs(float(measures.linear_share(half, phi).mean()) - 0.5) < 0.2
    assert (measures.input_correlation(phi, phi) > 0.999).all()
    assert (measures.input_correlation(new, phi).abs() < 0.03).all()


def test_psnr():
    x = torch.zeros(1, 3, 8, 8)
    assert torch.allclose(measures.psnr(x + 0.2, x), torch.tensor([20.0]))
