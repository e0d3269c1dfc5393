"""Codes and gates on the branched generator: three small training runs compared on validation photos.

`decomp train recipes/branches-plain`, `-coded` and `-gated` make the runs. Coded: the energies E_k = mean v_k^2 follow
the codeword of the target class (decomp/codes.py), while dividing v_k itself would erase its amplitude. Gated: a gate
per branch, decided from the photo (decomp/gates.py); a closed branch is not computed.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...codes import codewords, decode, normalised
from ...data.dataset import Photos
from ...generator import BranchedGenerator, Output
from ...metrics import psnr
from ..findings import Claim, Findings, write


def load(folder: Path) -> BranchedGenerator:
    """The averaged weights of a run.

    Raises:
        ValueError: `folder` holds no trained model.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no trained model; accepted: a run folder of `decomp train`")
    return BranchedGenerator.from_pretrained(folder).eval()


@torch.inference_mode()
def outputs(model: BranchedGenerator, x: Tensor, target: Tensor, batch: int = 50) -> Output:
    parts = [model(*part) for part in zip(x.split(batch), target.split(batch))]
    return Output(*(torch.cat(one) for one in zip(*parts)))


def energies(output: Output) -> Float[Tensor, "b m"]:
    """E_k, mean v_k^2."""
    return output.channels.square().mean(dim=(2, 3, 4))


def only(output: Output, chosen: Bool[Tensor, "b m"]) -> Tensor:
    """R and some of the channels."""
    return output.residual + (output.channels * chosen[:, :, None, None, None]).sum(dim=1)


def usage(values: Float[Tensor, "b m"], y: Tensor, classes: int) -> list[list[float]]:
    """Mean of something for each class and branch."""
    return torch.stack([values[y == c].mean(dim=0) for c in range(classes)]).tolist()


def of_codes(output: Output, x: Tensor, y: Tensor, code: Float[Tensor, "classes m"]) -> dict:
    """How far each class is the work of its own branches; photos re-generated as their own class."""
    own, e = code[y].bool(), normalised(energies(output))
    mean = lambda picture: float(psnr(picture, x).mean())
    return {
        "psnr": mean(output.image),
        "psnr_own": mean(only(output, own)),
        "psnr_others": mean(only(output, ~own)),
        "psnr_residual": mean(output.residual),
        "own_share": float((e * own).sum() / e.sum()),
        "decoded": float((decode(e, code) == y).float().mean()),
        "usage": usage(e / e.shape[1], y, len(code)),
    }


def of_gates(model: BranchedGenerator, output: Output, x: Tensor, y: Tensor, plain: Output) -> dict:
    """Which branches are open, and what the same number of fixed branches of the plain run would give."""
    with torch.inference_mode():
        z = model.gate(output.phi)
    count = max(1, round(float(z.sum(dim=1).mean())))
    strongest = energies(plain).mean(dim=0).topk(count).indices
    fixed = torch.zeros_like(z, dtype=torch.bool)
    fixed[:, strongest] = True
    classes = int(y.max()) + 1
    return {
        "psnr": float(psnr(output.image, x).mean()),
        "psnr_plain": float(psnr(plain.image, x).mean()),
        "psnr_fixed": float(psnr(only(plain, fixed), x).mean()),
        "open": float(z.sum(dim=1).mean()),
        "states": {
            "on": int(z.all(dim=0).sum()),
            "silent": int((~z.any(dim=0)).sum()),
            "dynamic": int((z.any(dim=0) & ~z.all(dim=0)).sum()),
        },
        "usage": usage(z.float(), y, classes),
    }


@torch.inference_mode()
def times(ways: dict[str, Callable], x: Tensor, y: Tensor, rounds: int = 3) -> dict[str, float]:
    """Median seconds for one photo, the networks taking turns."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for one, target in zip(x.split(1), y.split(1)):
            for name, way in ways.items():
                began = time.perf_counter()
                way(one, target)
                spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in spent.items()}


def run(plain: Path, coded: Path, gated: Path, data: Path, out: Path, count: int = 50) -> Findings:
    """Measure the three runs on `count` validation photos of each class; write figures and findings into `out`.

    Raises:
        ValueError: a folder is not a run, or a run has no codes or no gate.
        ValueError: a class has no photos.
    """
    from . import figures as draw  # matplotlib is needed by nothing else here

    began = time.monotonic()
    models = {name: load(folder) for name, folder in (("plain", plain), ("coded", coded), ("gated", gated))}
    config = models["coded"].config
    if not config.codes or models["gated"].gate is None:
        raise ValueError(f"{coded} must have been trained with codes, and {gated} with gated = true")
    photos = Photos(data, "val", config.domains, config.size, limit=count)
    x, y = photos.fixed(count)
    code = codewords(config.codes)
    output_of = {name: outputs(model, x, y) for name, model in models.items()}
    numbers = {
        "plain": of_codes(output_of["plain"], x, y, code),
        "coded": of_codes(output_of["coded"], x, y, code),
        "gated": of_gates(models["gated"], output_of["gated"], x, y, output_of["plain"]),
        "seconds": times({"plain": models["plain"], "gated": models["gated"]}, x[::10], y[::10]),
        "images": {name: images(folder) for name, folder in (("plain", plain), ("coded", coded), ("gated", gated))},
    }
    other = (y + 1) % len(config.domains)
    numbers["coded"]["decoded_other"] = float(
        (decode(normalised(energies(outputs(models["coded"], x, other))), code) == other).float().mean()
    )
    figures = draw.figures(numbers, config, {name: (x, y, output) for name, output in output_of.items()}, code)
    command = "decomp lab generator --plain RUN --coded RUN --gated RUN --data ROOT"
    spent = time.monotonic() - began
    return write(out, "Coded and gated branches of the generator", command, spent, numbers, claims(numbers), figures)


def images(folder: Path) -> int:
    """Photos that a run was shown, from its last line of statistics."""
    import json

    return int(json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])["images"])


def claims(numbers: dict) -> list[Claim]:
    """What codes and gates should do for a generator; no paper has measured it."""
    plain, coded, gated, seconds = (numbers[name] for name in ("plain", "coded", "gated", "seconds"))
    gain = {name: coded[name] - coded["psnr_residual"] for name in ("psnr", "psnr_own", "psnr_others")}
    of_all = len(gated["usage"][0])
    return [
        Claim(
            "A class's channels lie in its own branches.",
            "Coded ResNeXt, carried over",
            f"{100 * coded['own_share']:.0f} % of the channels' energy in the branches of the class; without codes "
            f"{100 * plain['own_share']:.0f} %",
            coded["own_share"] > 0.8,
            paper="none on generators",
            rule="above 80 %; a third is chance",
        ),
        Claim(
            "The energies show the target class.",
            "Coded ResNeXt, its decoder",
            f"nearest codeword right for {100 * coded['decoded']:.0f} % of photos, for "
            f"{100 * coded['decoded_other']:.0f} % of photos turned into another class; without codes "
            f"{100 * plain['decoded']:.0f} %. The class is an input of every branch, so this is not recognition",
            coded["decoded"] > 0.9 and coded["decoded_other"] > 0.9,
            paper="94 % on CIFAR-10",
            rule="above 90 % for own and other classes",
        ),
        Claim(
            "A class can be generated from its own branches.",
            "Coded ResNeXt, its carved classifiers",
            f"PSNR of R alone {coded['psnr_residual']:.1f}, with own branches {coded['psnr_own']:.1f}, with the others "
            f"{coded['psnr_others']:.1f}, with all {coded['psnr']:.1f}; without codes own {plain['psnr_own']:.1f}, all "
            f"{plain['psnr']:.1f}",
            None
            if gain["psnr"] < 0.3
            else gain["psnr_own"] > 0.75 * gain["psnr"] and gain["psnr_others"] < 0.25 * gain["psnr"],
            paper="none on generators",
            rule="own branches have three quarters of the gain over R, the others less than one; a gain below 0.3 dB "
            "is too small to tell",
        ),
        Claim(
            "Codes cost little quality.",
            "Coded ResNeXt, its accuracy",
            f"PSNR {coded['psnr']:.2f} with codes, {plain['psnr']:.2f} without",
            coded["psnr"] > plain["psnr"] - 0.5,
            paper="none on generators",
            rule="at most 0.5 dB lost",
        ),
        Claim(
            "Gates close branches that a photo does not need.",
            "dynamic decoupling, carried over",
            f"{gated['open']:.1f} of {of_all} open; PSNR {gated['psnr']:.2f}, the plain run's strongest "
            f"{round(gated['open'])} {gated['psnr_fixed']:.2f}, all of its {of_all} {gated['psnr_plain']:.2f}",
            gated["open"] < of_all - 1 and gated["psnr"] >= gated["psnr_fixed"],
            paper="none on generators",
            rule="at least one closed on average, PSNR not below the same number of fixed branches",
        ),
        Claim(
            "Gates depend on the photo.",
            "dynamic decoupling, its filter states",
            "{on} always open, {silent} never, {dynamic} dynamic".format(**gated["states"]),
            gated["states"]["dynamic"] > 0,
            paper="14 to 40 % of filters dynamic",
            rule="at least one dynamic",
        ),
        Claim(
            "Closed branches save time.",
            "dynamic decoupling, its time",
            f"{seconds['gated'] / seconds['plain']:.2f} of the plain time for one photo, the diffusion included",
            None if gated["open"] > of_all - 0.5 else seconds["gated"] < seconds["plain"],
            paper="0.86 to 0.92 (ResNet-18)",
            rule="less than the plain run in the same minute; with hardly any branch closed, too small to tell",
        ),
    ]
