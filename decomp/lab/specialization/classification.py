"""The paper's CIFAR-10 experiment: sums of M slim ResNet-18 beside unbranched ones, and what each branch does."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_model
from torch import Tensor

from .. import configuration, measures
from ..branched import Branched
from ..cifar import classifier
from ..cifar.classifier import Schedule, accuracy, normalised, outputs
from ..cifar.images import Images, load
from ..findings import Claim, Findings, write
from ..hessian import block_norms, diagonal_share, hessian_of
from . import classification_figures as draw

TRAINED_ALONE = ("slim", "slim-1", "slim-2", "slim-3")  # the control: slim networks trained alone
HESSIAN_IMAGES = 64


@dataclass(frozen=True)
class Experiment:
    """Which networks are trained, and how."""

    networks: tuple[str, ...]
    shown: str  # the one whose branches are analysed
    schedule: Schedule


def configured(name: str) -> Experiment:
    """A bundled configuration ("cifar-cpu", "cifar-gpu") or the path of a TOML file.

    Raises:
        ValueError: there is no such configuration.
    """
    build = lambda values: Experiment(tuple(values["networks"]), values["shown"], Schedule(**values["schedule"]))
    needed = f"networks, shown, and [schedule] with {', '.join(Schedule.__annotations__)}"
    return configuration.read(Path(__file__).parent / "configs", name, build, needed)


def sharing(contribution: Tensor) -> float:
    """Among how many branches the work for one class is divided, from 1 to M, the mean over classes.

    The exponential of the entropy of the branches' positive contributions (M, classes).
    """
    shares = contribution.clamp_min(0) / contribution.clamp_min(0).sum(dim=0).clamp_min(1e-12)
    return float(torch.special.entr(shares).sum(dim=0).exp().mean())


def same_favourites(logits: Tensor, labels: Tensor, count: int = 100) -> float:
    """Share of their `count` most confident images of a class that two branches have in common; a mean over classes."""
    scores, common = measures.telling(logits), []
    for c in range(logits.shape[2]):
        own = scores[:, labels == c, c]
        chosen = torch.zeros_like(own).scatter_(1, own.topk(count, dim=1).indices, 1.0)
        common.append(measures.off_diagonal(chosen @ chosen.mT / count))
    return float(np.mean(common))


def figures_of(logits: Tensor, labels: Tensor) -> dict:
    """Numbers of one sum of branches, from its logits (M, N, classes) on the test images."""
    f = measures.responses(measures.telling(logits))
    norms, is_active = measures.norms(f), measures.active(f)
    active = logits[is_active]
    centred = logits - logits.mean(dim=2, keepdim=True)
    constant = centred.mean(dim=1).square().sum() / centred.square().mean(dim=1).sum()
    return {
        "accuracy": accuracy(logits, labels),
        "norms": [round(float(n), 4) for n in norms],
        "active": int(is_active.sum()),
        "correlation": measures.off_diagonal(measures.correlation(measures.responses(measures.telling(active)))),
        "branches_per_class": sharing(measures.contribution(measures.telling(active), labels)),
        "same_favourites": same_favourites(active, labels),
        "constant": float(constant),  # share of the branches' energy that is the same for all images
        "accuracy_of_branches": [round(accuracy(one[None], labels), 4) for one in logits],
    }


def ends(start: Branched, end: Branched, data: Images) -> dict:
    """Hessian of the first layer and the gradient's factors on training images, as initialised and as trained."""
    chosen = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(0))[:HESSIAN_IMAGES]
    x, labels = normalised(data.pixels[chosen]).contiguous(), data.labels[chosen]
    by_end = {}
    for when, model in (("start", start), ("end", end)):
        model.train()
        loss = lambda f: F.cross_entropy(f, labels)
        second = hessian_of(model, "stem", x, loss)
        logits = model.outputs(x)
        collaborative, distributive = measures.gradient_factors(logits, loss(logits.sum(dim=0)), model.members)
        whole, joint = block_norms(second.whole()), block_norms(second.joint)
        by_end[when] = {
            "diagonal_share": diagonal_share(whole),
            "diagonal_share_joint": diagonal_share(joint),
            "norm": float(whole.norm()),
            "blocks": whole.tolist(),
            "joint_blocks": joint.tolist(),
            "collaborative": float(collaborative),
            "distributive": distributive.tolist(),
        }
    return by_end


def run(config: str, data: Path, out: Path, device: torch.device) -> Findings:
    """Train what is not trained yet, measure everything on the test images, write figures and findings into `out`.

    Raises:
        ValueError: no data, no such configuration, or networks of another schedule in `out`.
    """
    experiment, train, test = configured(config), load(data, True), load(data, False)
    schedule, labels = experiment.schedule, test.labels
    logits, numbers = {}, {}
    for name in dict.fromkeys((*experiment.networks, *TRAINED_ALONE)):
        model, seconds = classifier.fit(name, train, schedule, out / name, device)
        logits[name] = outputs(model, test)
        size = {"parameters": sum(p.numel() for p in model.parameters()), "seconds": round(seconds, 1)}
        numbers[name] = size | figures_of(logits[name], labels)
    logits["alone"] = torch.cat([logits[name] for name in TRAINED_ALONE])
    numbers["alone"] = figures_of(logits["alone"], labels)
    started = time.monotonic()
    start, end = (classifier.build(experiment.shown, schedule.stride) for _ in range(2))
    load_model(start, out / experiment.shown / "start.safetensors")
    load_model(end, out / experiment.shown / "model.safetensors")
    second = ends(start, end, train)
    spent = time.monotonic() - started + sum(of_network.get("seconds", 0) for of_network in numbers.values())
    branched = [name for name in experiment.networks if name.isdecimal()]
    figures = draw.figures(numbers, second, branched, logits[experiment.shown], logits["alone"], test)
    numbers |= {"hessian": second, "schedule": asdict(schedule)}
    command = f"decomp lab classify --data DATA --config {config}"
    judged = claims(numbers, branched, experiment.shown)
    return write(out, "CIFAR-10, a sum of slim ResNet-18", command, spent, numbers, judged, figures)


def claims(numbers: dict, branched: list[str], shown: str) -> list[Claim]:
    """The paper's sentences beside the figures; the control are networks of the same kind trained alone."""
    m, alone, second = numbers[shown], numbers["alone"], numbers["hessian"]
    counts = [numbers[name]["active"] for name in branched]
    return [
        Claim(
            "Some branches fall silent, the more the larger M is.",
            "figure 5",
            "active: " + ", ".join(f"{count} of {name}" for name, count in zip(branched, counts)),
            counts[-1] / int(branched[-1]) < counts[0] / int(branched[0]),
        ),
        Claim(
            "Branches trained together have a low covariance.",
            "figures 5 to 8",
            f"mean |cosine| of active branches {m['correlation']:.2f}, trained alone {alone['correlation']:.2f}",
            m["correlation"] < alone["correlation"] / 2,
        ),
        Claim(
            "Each class is the work of few branches.",
            "figures 5 to 8",
            f"{m['branches_per_class']:.1f} of {m['active']} active branches for a class; trained alone: "
            f"{alone['branches_per_class']:.1f} of {alone['active']}",
            m["branches_per_class"] / m["active"] < alone["branches_per_class"] / alone["active"] / 2,
        ),
        Claim(
            "Within a class, branches are most confident of different images.",
            "figures 16, 17",
            f"share of their 100 favourites that two branches have in common {m['same_favourites']:.2f}, trained alone "
            f"{alone['same_favourites']:.2f}",
            m["same_favourites"] < alone["same_favourites"] / 2,
        ),
        *hessian_claims(
            second["start"]["diagonal_share"],
            second["end"]["diagonal_share"],
            f"; its joint part alone {second['start']['diagonal_share_joint']:.2f} and "
            f"{second['end']['diagonal_share_joint']:.2f}",
        ),
    ]


def hessian_claims(before: float, after: float, more: str = "") -> list[Claim]:
    """Block diagonal in the end, and by training? Both from the share of its norm inside the diagonal blocks."""
    measured = f"share of its norm inside the diagonal blocks {before:.2f} at the start, {after:.2f} at the end{more}"
    return [
        Claim("At convergence the Hessian is block diagonal.", "section 5", measured, after > 0.9),
        Claim("Training brings the Hessian closer to it.", "section 5", measured, after > before),
    ]
