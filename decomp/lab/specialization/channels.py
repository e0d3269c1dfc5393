"""The same measures for the channels of a decomp model: v_1 .. v_M of photos, as trained and as initialised."""

import time
from pathlib import Path

import torch
from torch import Tensor

from ...data.dataset import Photos
from ...decomposer import Decomposer, load
from .. import measures
from ..findings import Claim, Findings, write
from ..hessian import block_norms, diagonal_share, hessian, varied
from ..plots import from_zero, heat, panels
from .classification import hessian_claims

LAYER = "to_rgb"  # of each branch, for the Hessian
HESSIAN_PHOTOS = 2


@torch.no_grad()
def channels(model: Decomposer, x: Tensor, own: Tensor) -> Tensor:
    """v_1 .. v_M of photos in their own class, (M, N, 3, H, W)."""
    return torch.cat([model.generator(*part).channels for part in zip(x.split(8), own.split(8))]).transpose(0, 1)


def measured(model: Decomposer, x: Tensor, own: Tensor) -> dict:
    """Numbers of a model on photos (N, 3, size, size) of classes (N,); the loss is the squared error of f(x)."""
    v = channels(model, x, own)
    f = measures.responses(v)
    x, own = x[:HESSIAN_PHOTOS], own[:HESSIAN_PHOTOS]
    with torch.no_grad():
        residual, phi = model.generator.split(x)
    loss = lambda summed: (residual + summed - x).square().mean()
    inputs = phi.unbind(1)
    second = hessian([varied(b, LAYER, p, own) for b, p in zip(model.generator.branches, inputs)], loss)
    outputs = torch.stack([branch(p, own) for branch, p in zip(model.generator.branches, inputs)])
    collaborative, distributive = measures.gradient_factors(outputs, loss(outputs.sum(dim=0)), model.generator.branches)
    blocks = block_norms(second.whole())
    is_active = measures.active(f)
    return {
        "norms": measures.norms(f).tolist(),
        "active": int(is_active.sum()),
        "correlation": measures.off_diagonal(measures.correlation(f[is_active])),
        "correlations": measures.correlation(f).tolist(),
        "diagonal_share": diagonal_share(blocks),
        "blocks": blocks.tolist(),
        "collaborative": float(collaborative),
        "distributive": distributive.tolist(),
    }


def run(name: str, data: Path, out: Path, count: int = 20) -> Findings:
    """Findings on the first `count` validation photos of each class below `data`.

    Raises:
        ValueError: no such model.
        ValueError: no photos of its classes.
    """
    started = time.monotonic()
    model = load(name)
    config = model.config
    x, own = Photos(data, "val", config.domains, config.size, limit=count).fixed(count)
    torch.manual_seed(0)
    fresh = Decomposer(config)
    fresh.generator.split = model.generator.split
    numbers = {"start": measured(fresh.eval(), x, own), "end": measured(model.eval(), x, own)}
    start, end = numbers["start"], numbers["end"]
    claims = [
        Claim(
            "Most branches of the generator are active.",
            "section 7",
            f"{end['active']} of {config.branches}",
            end["active"] > config.branches / 2,
        ),
        Claim(
            "Channels have a low covariance.",
            "figures 9 to 20",
            f"mean |cosine| of active channels {end['correlation']:.2f}, as initialised {start['correlation']:.2f}",
            end["correlation"] < 0.15,
        ),
        *hessian_claims(start["diagonal_share"], end["diagonal_share"], f" (squared error, by {LAYER})"),
    ]
    cosine, cosine_axes = panels(2)
    blocks, block_axes = panels(2)
    for a, b, when, values in zip(cosine_axes, block_axes, ("as initialised", "as trained"), (start, end)):
        heat(a, torch.tensor(values["correlations"]).numpy(), when, -1, 1, xlabel="channel", ylabel="channel")
        relative = torch.tensor(values["blocks"])
        title = f"{when}: {values['diagonal_share']:.2f} on the diagonal"
        from_zero(b, (relative / relative.max()).numpy(), title, xlabel="channel", ylabel="channel")
    figures = {
        "covariance": (f"Cosine between the channels over {len(x)} photos, as initialised and as trained.", cosine),
        "hessian": (f"Norm of each block of the squared error's Hessian by the branches' {LAYER}, largest 1.", blocks),
    }
    spent = time.monotonic() - started
    command = f"decomp lab channels --model {name} --data DATA"
    return write(out, f"Channels of {name}", command, spent, numbers, claims, figures)
