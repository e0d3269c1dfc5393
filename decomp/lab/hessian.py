"""The Hessian of a loss of a sum of branches, in M x M blocks, over one layer of each branch.

With f = sum_k v_k(theta_k) and L = L(f), block (k, l) is J_k^T (d2L/df2) J_l, and for k = l there is dL/df times the
second derivative of v_k as well. It is computed from these parts, exactly: differentiating the whole model twice would
cost M times as much.
"""

import copy
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, replace_all_batch_norm_modules_, vmap

from .branched import Branched

CHUNK = 16  # directions differentiated at once


class Hessian(NamedTuple):
    """The Hessian's two parts, M branches with P parameters each."""

    joint: Float[Tensor, "m p m p"]  # J_k^T (d2L/df2) J_l
    own: Float[Tensor, "m p p"]  # dL/df times the second derivative of v_k

    def whole(self) -> Float[Tensor, "m p m p"]:
        blocks = self.joint.clone()
        blocks.diagonal(dim1=0, dim2=2).add_(self.own.permute(1, 2, 0))
        return blocks


class Varied(NamedTuple):
    """A branch as a function of one of its layers: that layer's parameters (P,), and the output they give."""

    theta: Tensor
    output: Callable[[Tensor], Tensor]


def varied(member: nn.Module, layer: str, *inputs: Tensor, clamp: float | None = None) -> Varied:
    """A branch seen as a function of one layer's parameters, its input held.

    Batch normalisation takes the statistics of the input, as in training.

    Raises:
        AttributeError: no such layer.
    """
    member = replace_all_batch_norm_modules_(copy.deepcopy(member)).requires_grad_(False)
    parameters = {f"{layer}.{name}": p for name, p in member.get_submodule(layer).named_parameters()}
    sizes = [p.numel() for p in parameters.values()]

    def output(theta: Tensor) -> Tensor:
        pieces = (t.view_as(p) for t, p in zip(theta.split(sizes), parameters.values()))
        v = functional_call(member, dict(zip(parameters, pieces)), inputs)
        return v if clamp is None else v.clamp(-clamp, clamp)

    return Varied(torch.cat([p.flatten() for p in parameters.values()]), output)


def along(function: Callable[[Tensor], Tensor], at: Tensor, directions: Tensor) -> Tensor:
    """Derivatives of a function along directions (d, ...), `CHUNK` at once: (d, ...)."""
    return vmap(lambda direction: jvp(function, (at,), (direction,))[1], chunk_size=CHUNK)(directions)


def hessian(branches: Iterable[Varied], loss: Callable[[Tensor], Tensor]) -> Hessian:
    """Second derivatives of loss(f), f being the sum of the branches' outputs, by the varied layers of all branches."""
    thetas, functions = zip(*branches)
    m, p = len(thetas), len(thetas[0])
    everywhere = torch.eye(p).to(thetas[0])
    f = sum(function(theta) for theta, function in zip(thetas, functions))
    common = grad(loss)(f)
    jacobians = torch.cat([along(function, theta, everywhere) for theta, function in zip(thetas, functions)])
    curved = along(grad(loss), f, jacobians)  # (M P, N, ...)
    joint = (jacobians.flatten(1) @ curved.flatten(1).mT).view(m, p, m, p)
    second = lambda function: grad(lambda theta: (common * function(theta)).sum())
    own = torch.stack([along(second(function), theta, everywhere) for theta, function in zip(thetas, functions)])
    return Hessian(joint, own)


def hessian_of(model: Branched, layer: str, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Hessian:
    """`hessian` by one layer, such as "stem", of every branch of a model that sees x, (N, ...)."""
    return hessian([varied(member, layer, x, clamp=model.clamp) for member in model.members], loss)


def block_norms(blocks: Float[Tensor, "m p m p"]) -> Float[Tensor, "m m"]:
    """Frobenius norm of each block."""
    return blocks.square().sum(dim=(1, 3)).sqrt()


def diagonal_share(norms: Float[Tensor, "m m"]) -> float:
    """Share of the Frobenius norm inside the M diagonal blocks, 0 to 1; sqrt(1 / M) if all blocks are alike."""
    return float(norms.diagonal().norm() / norms.norm())
