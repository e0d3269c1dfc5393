"""Sums over the colours or the pixels of channels, each with a gradient that is one pass over them.

Channels are the largest tensors of a step, and most terms begin with one of these sums. Autograd would take three to
six passes over memory for the gradient of each.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def light_and_energy(
    channels: Float[Tensor, "b m 3 h w"],
) -> tuple[Float[Tensor, "b m h w"], Float[Tensor, "b m h w"]]:
    """Mean of the colours, and of their squares. What the second exceeds the first's square by is the energy of hue."""
    return _LightAndEnergy.apply(channels)


def inner(channels: Float[Tensor, "b m 3 h w"], picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b m h w"]:
    """Mean over the colours of each channel times the picture."""
    return _Inner.apply(channels, picture)


def covariance(channels: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "b m m"]:
    """Of each pair of channels of a photo, over colours and pixels."""
    return _Covariance.apply(channels)


class _LightAndEnergy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        red, green, blue = v.unbind(dim=2)
        energy = red.square().addcmul_(green, green).addcmul_(blue, blue)
        return v.mean(dim=2), energy.div_(3)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_light, of_energy):
        (v,) = ctx.saved_tensors
        return torch.addcmul((of_light / 3)[:, :, None], v, (of_energy * (2 / 3))[:, :, None])


class _Inner(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, picture):
        ctx.save_for_backward(v, picture)
        red, green, blue = zip(v.unbind(dim=2), picture[:, None].unbind(dim=2))
        return (red[0] * red[1]).addcmul_(*green).addcmul_(*blue).div_(3)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_inner):
        v, picture = ctx.saved_tensors
        each = (of_inner / 3)[:, :, None]
        of_picture = None
        if ctx.needs_input_grad[1]:
            of_picture = sum(g * u for g, u in zip(each.unbind(dim=1), v.unbind(dim=1)))
        return each * picture[:, None], of_picture


class _Covariance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        flat = v.flatten(2)
        mean = flat.mean(dim=2, keepdim=True)
        ctx.save_for_backward(v, mean)
        return flat @ flat.mT / flat.shape[2] - mean @ mean.mT

    @staticmethod
    @once_differentiable
    def backward(ctx, of_covariance):
        v, mean = ctx.saved_tensors
        flat = v.flatten(2)
        both = (of_covariance + of_covariance.mT) / flat.shape[2]
        return torch.baddbmm(-(both @ mean), both, flat).view_as(v)
