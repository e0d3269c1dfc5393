"""Measures of specialisation for any sum of branches, from the outputs of the branches alone.

Outputs are (M, N, ...): M branches, N samples, and whatever one sample's output is. The response matrix F is (M, N):
one number per branch and sample.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..metrics import strong


def responses(outputs: Float[Tensor, "m n ..."]) -> Float[Tensor, "m numbers"]:
    """The response matrix F: one row per branch, the branch's outputs for all samples."""
    return outputs.flatten(1)


def norms(f: Float[Tensor, "*runs m n"]) -> Float[Tensor, "*runs m"]:
    """Response norm of each branch: the root mean square of its row."""
    return f.square().mean(dim=-1).sqrt()


def active(f: Float[Tensor, "*runs m n"]) -> Bool[Tensor, "*runs m"]:
    """Which branches' response norms are at least 10 % of the largest one's (figure 4); the others are silent."""
    return strong(norms(f))


def covariance(f: Float[Tensor, "*runs m n"]) -> Float[Tensor, "*runs m m"]:
    """F F^T, the paper's covariance: inner products of the branches' responses, not centred."""
    return f @ f.mT


def correlation(f: Float[Tensor, "*runs m n"]) -> Float[Tensor, "*runs m m"]:
    """F F^T of rows scaled to length 1: cosines between the branches' responses; 0 with a branch that is all zero."""
    return covariance(f / f.norm(dim=-1, keepdim=True).clamp_min(1e-12))


def off_diagonal(matrix: Float[Tensor, "m m"]) -> float:
    """Mean absolute value outside the diagonal; 0 where there are fewer than two branches."""
    m = len(matrix)
    return float((matrix.abs().sum() - matrix.abs().trace()) / max(1, m * (m - 1)))


def telling(logits: Float[Tensor, "m n classes"]) -> Float[Tensor, "m n classes"]:
    """The part of the logits that depends on the image.

    Subtracted are their mean over the classes, which does not change a softmax, and each branch's mean over the images,
    which a bias could give.
    """
    centred = logits - logits.mean(dim=2, keepdim=True)
    return centred - centred.mean(dim=1, keepdim=True)


def confidence(outputs: Float[Tensor, "m n classes"]) -> Float[Tensor, "m n"]:
    """How much each branch raises one class over the mean of all, in each sample: largest logit minus the mean logit.

    It is 0 for a branch whose logits are the same for every class.
    """
    return outputs.amax(dim=2) - outputs.mean(dim=2)


def contribution(outputs: Float[Tensor, "m n classes"], labels: Tensor) -> Float[Tensor, "m classes"]:
    """Mean over the samples of a class of what each branch adds to that class's logit over the mean of all logits."""
    centred = outputs - outputs.mean(dim=2, keepdim=True)
    own = centred.gather(2, labels.expand(len(outputs), -1)[..., None]).squeeze(2)
    return torch.stack([own[:, labels == c].mean(dim=1) for c in range(outputs.shape[2])], dim=1)


def gradient_factors(outputs: Float[Tensor, "m n ..."], loss: Tensor, members: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """The two factors of each branch's gradient, dL/dtheta_k = (dv_k/dtheta_k)^T dL/df.

    The collaborative part dL/df is the same for all branches, as f is their sum; the distributive part is the branch's
    own Jacobian, measured here by how much it stretches that common vector.

    Args:
        outputs: what `Branched.outputs` gave; the graph is kept.
        loss: a scalar that depends on the branches through their sum alone.
    Returns:
        collaborative, a scalar: the norm of dL/df; distributive, (M,): |dL/dtheta_k| / |dL/df|.
    """
    (common,) = torch.autograd.grad(loss, outputs, retain_graph=True)
    collaborative = common[0].norm()
    stretched = []
    for k, member in enumerate(members):
        gradients = torch.autograd.grad(outputs[k], list(member.parameters()), common[k], True, allow_unused=True)
        stretched.append(torch.cat([g.flatten() for g in gradients if g is not None]).norm())
    return collaborative, torch.stack(stretched) / collaborative.clamp_min(1e-30)
