"""Dynamic decoupling on CIFAR-10: one plain network, fine-tuned with gates under several weights of the losses."""

import statistics
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from tqdm import tqdm

from .. import configuration, resume
from ..cifar.classifier import STD, augmented, decayed, normalised
from ..cifar.images import Images, load
from ..findings import Claim, Findings, write
from .method import GatedResNet, losses, without_silent

EPSILON = 4 / 255  # of the attack


@dataclass(frozen=True)
class Weights:
    """Of the losses, equation 7."""

    mi: float
    sparsity: float
    kl: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """Architecture and training; see the .toml files."""

    size: int  # pixels of a side; CIFAR-10 averaged down
    blocks: int
    width: int
    batch: int
    epochs: int  # of the plain network; one cycle of the learning rate
    lr: float
    gated_epochs: int  # of fine-tuning
    gated_lr: float
    controller_lr: float
    weight_decay: float
    train: int  # images, from the first on
    test: int
    seeds: int
    mi: tuple[float, ...]  # lambda_m, rising from 0, at the middle one of `sparsity`
    sparsity: tuple[float, ...]  # lambda_s, rising, at the middle one of `mi`

    def settings(self) -> dict[str, Weights | None]:
        """Name -> weights; None is the same fine-tuning without gates."""
        pairs = {name: Weights(*pair) for name, pair in (self._mi() | self._sparsity()).items()}
        return {"no-gate": None} | pairs

    def along(self, weight: str) -> list[str]:
        """Settings in which "mi" or "sparsity" grows and the other is the same."""
        return list(self._mi() if weight == "mi" else self._sparsity())

    @property
    def shown(self) -> str:
        """The setting that is analysed in detail: the largest information loss."""
        return self.along("mi")[-1]

    def _mi(self) -> dict[str, tuple[float, float]]:
        return _named((m, self.sparsity[len(self.sparsity) // 2]) for m in self.mi)

    def _sparsity(self) -> dict[str, tuple[float, float]]:
        return _named((self.mi[len(self.mi) // 2], s) for s in self.sparsity)


def _named(pairs) -> dict[str, tuple[float, float]]:
    return {f"mi-{m:g}-sparsity-{s:g}": (m, s) for m, s in pairs}


def configured(name: str) -> Schedule:
    """A bundled configuration ("decoupling-cpu", "decoupling-gpu") or the path of a TOML file.

    Raises:
        ValueError: there is no such configuration.
    """
    build = lambda values: Schedule(**values | {key: tuple(values[key]) for key in ("mi", "sparsity")})
    return configuration.read(Path(__file__).parent, name, build, ", ".join(Schedule.__annotations__))


# ------------------------------------------------------------------------------------------------------------ training


def plain(data: Images, schedule: Schedule, seed: int, folder: Path, device: torch.device) -> tuple[GatedResNet, float]:
    """The plain network that every fine-tuning starts from, and the seconds it took."""
    torch.manual_seed(seed)
    model = GatedResNet(schedule.blocks, schedule.width).open().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(decayed(model, schedule.weight_decay), schedule.lr, momentum=0.9, nesterov=True)
    settings = repr(replace(schedule, seeds=0, test=0, gated_epochs=0, gated_lr=0, controller_lr=0, mi=(), sparsity=()))
    return _fit(model, None, optimizer, data, schedule, schedule.epochs, seed, folder / f"plain-{seed}.pt", settings)


def fine_tuned(
    name: str, start: GatedResNet, data: Images, schedule: Schedule, seed: int, folder: Path, device: torch.device
):
    """A copy of the plain network trained on under one setting, and the seconds it took."""
    weights = schedule.settings()[name]
    torch.manual_seed(seed)
    model = GatedResNet(schedule.blocks, schedule.width).to(device, memory_format=torch.channels_last)
    fresh = {
        key: value
        for key, value in model.state_dict().items()
        if key.split(".")[-2] in ("squeeze", "select", "classify")
    }
    model.load_state_dict(start.state_dict() | fresh)
    model.open(weights is None)
    gates = [p for c in model.gated for part in (c.squeeze, c.select, c.classify) for p in part.parameters()]
    own = {id(p) for p in gates}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in own], "weight_decay": schedule.weight_decay},
        {"params": gates, "lr": schedule.controller_lr},
    ]
    optimizer = torch.optim.SGD(groups, schedule.gated_lr, momentum=0.9)
    settings = repr((weights, replace(schedule, seeds=0, test=0, mi=(), sparsity=())))
    return _fit(
        model, weights, optimizer, data, schedule, schedule.gated_epochs, seed, folder / f"{name}-{seed}.pt", settings
    )


def _fit(
    model, weights: Weights | None, optimizer, data: Images, schedule: Schedule, epochs: int, seed: int, file, settings
):
    steps = len(data.labels) // schedule.batch
    device = next(model.parameters()).device
    rates = [group["lr"] for group in optimizer.param_groups]
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, epochs * steps, pct_start=0.2)

    def one_epoch(epoch: int) -> None:
        model.train()
        rng = torch.Generator().manual_seed(seed * 1000 + epoch)
        torch.manual_seed(seed * 1000 + epoch)  # the gates' noise draws from the global one
        order = torch.randperm(len(data.labels), generator=rng)[: steps * schedule.batch]
        for chosen in tqdm(order.split(schedule.batch), f"{file.stem}: epoch {epoch + 1}/{epochs}", mininterval=5):
            x = augmented(normalised(data.pixels[chosen].to(device)), rng, schedule.size // 8)
            labels = data.labels[chosen].to(device)
            logits, gates = model(x)
            loss = F.cross_entropy(logits, labels)
            if weights:
                terms = losses(gates, labels)
                loss = loss + sum(weight * terms[term] for term, weight in asdict(weights).items())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()

    parts = {"model": model, "optimizer": optimizer, "cycle": cycle}
    seconds = resume.train(file, {"schedule": settings, "seed": seed}, parts, epochs, one_epoch)
    return model.eval(), seconds


# ------------------------------------------------------------------------------------------------------------ measures


class Paths(NamedTuple):
    """What a network did on some images."""

    logits: Float[Tensor, "n classes"]
    z: list[Bool[Tensor, "n filters"]]  # of each gated convolution

    @property
    def flat(self) -> Float[Tensor, "n all"]:
        return torch.cat(self.z, dim=1).float()


@torch.no_grad()
def paths(model: GatedResNet, x: Float[Tensor, "n 3 h w"], batch: int = 500) -> Paths:
    """Logits and open gates of normalised images."""
    device = model.head.weight.device
    parts = [model(part.to(device)) for part in x.split(batch)]
    z = [torch.cat(one).bool().cpu() for one in zip(*([g.z for g in gates] for _, gates in parts))]
    return Paths(torch.cat([logits for logits, _ in parts]).cpu(), z)


def states(z: list[Tensor]) -> list[dict[str, int]]:
    """Filters of each gated convolution that are on for all images, for none, or for some."""
    return [
        {"on": int(one.all(dim=0).sum()), "silent": int((~one.any(dim=0)).sum()), "filters": one.shape[1]}
        | {"dynamic": int((one.any(dim=0) & ~one.all(dim=0)).sum())}
        for one in z
    ]


def work(model: GatedResNet, z: list[Tensor], size: int) -> float:
    """Multiplications of the gated convolutions and their controllers for one image, a mean over images.

    A convolution costs as much as it has active inputs times active filters; only the second one of a block has
    inputs that gates close.
    """
    total, side = 0.0, size
    for i, block in enumerate(model.blocks):
        side //= block.stride
        first, second = (one.float().sum(dim=1) for one in z[2 * i : 2 * i + 2])
        total += float((block.first.conv.in_channels * first + first * second).mean()) * 9 * side**2
        if not block.first.open:
            total += sum(layer.weight.numel() for c in (block.first, block.second) for layer in (c.squeeze, c.select))
    return total


def neighbours(z: Tensor, labels: Tensor) -> float:
    """Share of the second half of the images whose nearest path in the first half is of their class."""
    half = len(z) // 2
    nearest = KNeighborsClassifier(1, metric="manhattan").fit(z[:half].numpy(), labels[:half].numpy())
    return float(nearest.score(z[half:].numpy(), labels[half:].numpy()))


def attacked(model: GatedResNet, x: Tensor, labels: Tensor, epsilon: float, batch: int = 250) -> Tensor:
    """FGSM (Goodfellow et al., 2015): every pixel moved by `epsilon`, in units of [0, 1], up the loss."""
    device, step = model.head.weight.device, epsilon / torch.tensor(STD)[:, None, None]
    moved = []
    for part, own in zip(x.split(batch), labels.split(batch)):
        part = part.to(device).requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(part)[0], own.to(device)), part)
        moved.append((part.detach() + gradient.sign() * step.to(device)).cpu())
    return torch.cat(moved)


def odd_paths(clean: Paths, fooled: Paths, labels: Tensor) -> dict:
    """Distance of a path to the mean path of the class that is predicted: does it detect attacked images?"""
    predicted, original = fooled.logits.argmax(dim=1), clean.logits.argmax(dim=1)
    right = original == labels
    centre = torch.stack(
        [clean.flat[(original == k) & right].mean(dim=0) for k in range(clean.logits.shape[1])]
    ).nan_to_num()
    chosen = right & (predicted != labels)
    distance = lambda one, k: (one.flat - centre[k]).abs().sum(dim=1)
    scores = torch.cat([distance(clean, original)[right], distance(fooled, predicted)[chosen]])
    truth = torch.cat([torch.zeros(int(right.sum())), torch.ones(int(chosen.sum()))])
    auc = float(roc_auc_score(truth, scores)) if 0 < chosen.sum() else float("nan")
    return {"fooled": float(chosen.sum() / right.sum().clamp_min(1)), "auc": auc}


@torch.no_grad()
def times(model: GatedResNet, x: Float[Tensor, "n 3 h w"]) -> dict[str, float]:
    """Median seconds for one image, taking turns: all filters then masked, and active filters gathered."""
    ways, spent = {"masked": model, "gathered": model.gathered}, {"masked": [], "gathered": []}
    for one in x.split(1):
        for name, way in ways.items():
            began = time.perf_counter()
            way(one)
            spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in spent.items()}


def widened(width: int, blocks: int, share_on: float) -> GatedResNet:
    """An untrained network whose gates open for `share_on` of its filters: to time what a wider one would save."""
    torch.manual_seed(0)
    model = GatedResNet(blocks, width).eval()
    for conv in model.gated:
        nn.init.zeros_(conv.select.weight)
        conv.select.bias.data = torch.where(torch.rand_like(conv.select.bias) < share_on, 1.0, -1.0)
    return model


def measured(model: GatedResNet, x: Tensor, labels: Tensor, size: int) -> dict:
    """All numbers of one network, from the test images."""
    clean = paths(model, x)
    numbers = {
        "accuracy": float((clean.logits.argmax(dim=1) == labels).float().mean()),
        "work": work(model, clean.z, size),
        "on": float(clean.flat.mean()),
        "parameters": sum(p.numel() for name, p in model.named_parameters() if "classify" not in name),
    }
    if model.gated[0].open:
        return numbers
    layers = states(clean.z)
    small = without_silent(model.cpu(), [one.any(dim=0) for one in clean.z])
    usage = torch.stack([clean.flat[labels == k].mean(dim=0) for k in range(clean.logits.shape[1])])
    fooled = paths(model, attacked(model, x, labels, EPSILON))
    dynamic = sum(layer["dynamic"] for layer in layers)
    return numbers | {
        "layers": layers,
        "dynamic": dynamic / sum(layer["filters"] for layer in layers),
        "parameters_without_silent": sum(p.numel() for name, p in small.named_parameters() if "classify" not in name),
        "class_from_path": [neighbours(one.float(), labels) for one in clean.z],
        "usage": [one.tolist() for one in usage.split([one.shape[1] for one in clean.z], dim=1)],
        "attack": odd_paths(clean, fooled, labels),
    }


def run(config: str, data: Path, out: Path, device: torch.device) -> Findings:
    """Train what is not trained yet, measure everything on test images, write figures and findings into `out`.

    Raises:
        ValueError: no data, no such configuration, or networks of another schedule in `out`.
    """
    from . import figures as draw  # matplotlib is needed by nothing else here

    schedule = configured(config)
    known, test = (load(data, split).averaged(schedule.size) for split in (True, False))
    known, test = known.first(schedule.train), test.first(schedule.test)
    x = normalised(test.pixels)
    spent, numbers = 0.0, {name: [] for name in schedule.settings()}
    for seed in range(schedule.seeds):
        start, seconds = plain(known, schedule, seed, out, device)
        spent += seconds
        for name in schedule.settings():
            model, seconds = fine_tuned(name, start, known, schedule, seed, out, device)
            began = time.monotonic()
            measure = partial(measured, model, x, test.labels, schedule.size)
            numbers[name].append(resume.measured(out / f"{name}-{seed}.pt", {"test": schedule.test}, measure))
            spent += seconds + time.monotonic() - began
            if seed == 0 and name == schedule.shown:
                shown = paths(model, x)
                numbers["times"] = {str(schedule.width): times(model.cpu(), x[:50])}
                on = float(shown.flat.mean())
                for width in (64, 128):
                    numbers["times"][str(width)] = times(widened(width, schedule.blocks, on), x[:20])
                numbers["times"]["share_on"] = on
    checked = claims({name: numbers[name] for name in schedule.settings()}, schedule, numbers["times"])
    command = f"decomp lab decouple --data DATA --config {config}"
    figures = draw.figures(numbers, schedule, shown, test.labels)
    numbers["schedule"] = asdict(schedule)
    return write(out, "Dynamic decoupling on CIFAR-10", command, spent, numbers, checked, figures)


# -------------------------------------------------------------------------------------------------------------- claims


def claims(runs: dict[str, list[dict]], schedule: Schedule, seconds: dict) -> list[Claim]:
    """The paper's claims beside ours; a mean over the seeds."""
    mean = {
        name: {k: float(np.mean([r[k] for r in rs])) for k in rs[0] if np.isscalar(rs[0][k])}
        for name, rs in runs.items()
    }
    by_mi, by_sparsity = schedule.along("mi"), schedule.along("sparsity")
    dynamic = [100 * mean[name]["dynamic"] for name in by_mi]
    work = [mean[name]["work"] / mean["no-gate"]["work"] for name in by_sparsity]
    shown = runs[schedule.shown]
    firsts = np.mean([[layer["dynamic"] / layer["filters"] for layer in r["layers"]] for r in shown], axis=0)
    order = float(spearmanr(np.arange(len(firsts[::2])), firsts[::2]).statistic) if np.ptp(firsts[::2]) else 0.0
    third = len(firsts) // 3
    probe = lambda rs: np.mean([r["class_from_path"] for r in rs], axis=0)
    early, late = (100 * float(probe(shown)[part].mean()) for part in (slice(0, third), slice(-third, None)))
    static = 100 * float(probe(runs[by_mi[0]])[-third:].mean())
    accuracy = {name: 100 * one["accuracy"] for name, one in mean.items()}
    attack = {key: float(np.mean([r["attack"][key] for r in shown])) for key in ("auc", "fooled")}
    kept = mean[schedule.shown]["parameters_without_silent"] / mean["no-gate"]["parameters"]
    ratio = {width: s["gathered"] / s["masked"] for width, s in seconds.items() if width != "share_on"}
    return [
        Claim(
            "The information loss makes gates depend on the image.",
            "ablation on ResNet-56, figure 8",
            "dynamic filters: " + ", ".join(f"{d:.0f} % at lambda_m {m:g}" for d, m in zip(dynamic, schedule.mi)),
            dynamic[0] < 5 and dynamic[-1] > 10 and dynamic == sorted(dynamic),
            paper="0 to 1 % without, 14 to 40 % with it",
            rule="below 5 % without, above 10 % at the largest weight, rising in between",
        ),
        Claim(
            "Deeper layers have more dynamic filters.",
            "figure 3",
            f"rank correlation with depth {order:.2f}, first convolutions of the blocks",
            order > 0.5,
            paper="share grows with depth (drawn)",
            rule="above 0.5",
        ),
        Claim(
            "A path shows the class, the better the deeper.",
            "figure 5",
            f"nearest path right: first third of the layers {early:.0f} %, last third {late:.0f} %, without the "
            f"information loss {static:.0f} %",
            late > early + 10,
            paper="clusters in t-SNE (drawn)",
            rule="last third at least 10 points above the first",
        ),
        Claim(
            "The sparsity loss saves work.",
            "ablation on ResNet-56",
            "work against the plain network: "
            + ", ".join(f"{w:.2f} at {s:g}" for w, s in zip(work, schedule.sparsity)),
            None if len(work) < 2 else work == sorted(work, reverse=True) and work[-1] < 1,
            paper="0.94 to 0.47",
            rule="falling with its weight, below 1 at the largest; one weight alone is too small to tell",
        ),
        Claim(
            "Accuracy is kept.",
            "ResNet-56 on CIFAR-10",
            ", ".join(f"{name} {a:.1f}" for name, a in accuracy.items()),
            accuracy[schedule.shown] > accuracy["no-gate"] - 1,
            paper="93.43 against 93.17",
            rule=f"{schedule.shown} not worse than no gates by more than 1 point",
        ),
        Claim(
            "Dynamic gates do better than static ones at the same work.",
            "ablation on ResNet-56",
            "; ".join(
                f"{kind}: {accuracy[name]:.1f} at {mean[name]['work'] / mean['no-gate']['work']:.2f} of the work"
                for kind, name in (("dynamic", by_mi[-1]), ("static", by_mi[0]))
            ),
            None,
            paper="+0.24 and +0.25",
            rule="the paper's gain is below the noise of single runs",
        ),
        Claim(
            "Silent filters can be deleted.",
            "training, last step",
            f"{100 * kept:.0f} % of the plain network's parameters are left, controllers counted",
            kept < 1,
            paper="67 % (ResNet-56)",
            rule="fewer parameters than the plain network; that no logit changes is a test",
        ),
        Claim(
            "Gates save time for one image.",
            "ImageNet on one CPU thread",
            f"active filters gathered, {100 * seconds['share_on']:.0f} % on: "
            + ", ".join(f"{r:.2f} of the time at width {w}" for w, r in ratio.items()),
            ratio[str(schedule.width)] < 1,
            paper="0.86 to 0.92 (ResNet-18)",
            rule="below 1 at the trained width; the wider ones are untrained, with as many gates open",
        ),
        Claim(
            "Attacked images take odd paths.",
            "figures 4, 10, 11",
            f"FGSM of {EPSILON * 255:.0f}/255 fools {100 * attack['fooled']:.0f} %; the path detects them with an AUC "
            f"of {attack['auc']:.2f}",
            attack["auc"] > 0.6,
            paper="drawn only",
            rule="AUC above 0.6",
        ),
    ]
