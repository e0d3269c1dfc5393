"""Does `PerturbChannels` help where photos are few, as the paper's outlook hopes (section 7)?

A small classifier learns the classes of a data set from 5 and 20 % of its photos: mirrored only, with torchvision's
`ColorJitter` as well, or with channel strengths perturbed as well. Both augmentations are tuned alike: as many
settings, tried on the same photos, which are in no other set.

An unfair advantage of the channels: their network was trained on all training photos with their classes.
"""

import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.transforms import v2

from ...decomposer import load
from ...files import atomic
from ...weights import fingerprint
from ..findings import Claim, Findings, write
from ..plots import panels
from .pool import Pool, gather

POOL = 0.2  # of the training photos, decomposed once
SMALL = 0.05  # of them; each seed trains on its own block of the pool
TUNING = 150  # photos of each class
SEEDS = (0, 1, 2)
BATCH = 64
EPOCHS = {SMALL: 30, POOL: 15}
RATE = 3e-3


@dataclass(frozen=True)
class Arm:
    """One way to augment, at one setting."""

    name: str
    setting: str = ""
    jitter: tuple[float, float] | None = None  # brightness, contrast and saturation alike; hue
    spread: dict[str, float] = field(default_factory=dict)  # of "channels", "residual", "unexplained"


NONE = Arm("mirrored only")
JITTERS = [
    Arm("colour jitter", f"{strength:g}, hue {hue:g}", jitter=(strength, hue))
    for strength, hue in ((0.2, 0.02), (0.4, 0.05), (0.6, 0.1), (0.8, 0.2))
]
PERTURBED = [
    Arm("perturbed channels", "channels 0.5", spread={"channels": 0.5}),
    Arm("perturbed channels", "channels 1", spread={"channels": 1.0}),
    Arm(
        "perturbed channels",
        "channels 0.5, R 0.3, E 0.5",
        spread={"channels": 0.5, "residual": 0.3, "unexplained": 0.5},
    ),
    Arm("perturbed channels", "channels 1, R 0.5, E 1", spread={"channels": 1.0, "residual": 0.5, "unexplained": 1.0}),
]


class Classifier(nn.Module):
    """Four convolutions, three of them halving; (B, 3, SIDE, SIDE) to logits. 61 thousand parameters."""

    def __init__(self, classes: int):
        super().__init__()
        widths = (3, 16, 32, 64, 64)
        stages = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            stages += [nn.Conv2d(a, b, 3, 1 if i == 3 else 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.features = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


def augmented(layers: Tensor, arm: Arm, generator: torch.Generator) -> Tensor:
    """A batch of photos (B, 3, H, W) in [-1, 1] from their layers (B, M + 2, 3, H, W), mirrored half the time."""
    b, count = layers.shape[:2]
    if arm.spread:
        spread = torch.tensor(
            [
                arm.spread.get("residual", 0.0),
                *(count - 2) * [arm.spread["channels"]],
                arm.spread.get("unexplained", 0.0),
            ]
        )
        strengths = 1 + spread * torch.randn(b, count, generator=generator)
        x = torch.einsum("bm,bmchw->bchw", strengths, layers).clamp(-1, 1)
    else:
        x = layers.sum(dim=1)
    if arm.jitter:
        strength, hue = arm.jitter
        jitter = v2.ColorJitter(strength, strength, strength, hue)
        x = torch.stack([jitter(photo) for photo in ((x + 1) / 2).clamp(0, 1)]) * 2 - 1
    mirrored = torch.rand(b, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def accuracy(model: nn.Module, photos: tuple[Tensor, Tensor]) -> float:
    """Share of photos classified right, the logits of the photo and its mirror image added."""
    x, labels = photos
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(part) + model(part.flip(3)) for part in x.split(256)])
    return float((logits.argmax(dim=1) == labels).float().mean())


def trained(pool: Pool, out: Path) -> tuple[list[Arm], dict[str, dict]]:
    """The best setting of each way to augment, tried with the first seed on few photos; then all seeds on few and many.

    The second result holds every run by its `key`. `out/runs.json` is written after each; runs in it are not
    repeated.
    """
    file = out / "runs.json"
    runs = json.loads(file.read_text()) if file.is_file() else {}

    def run(arm: Arm, share: float, seed: int) -> dict:
        name = key(arm, share, seed)
        if name not in runs:
            runs[name] = fit(pool, arm, share, seed)
            with atomic(file) as temporary:
                temporary.write_text(json.dumps(runs, indent=2))
        return runs[name]

    best = [max(arms, key=lambda arm: run(arm, SMALL, SEEDS[0])["tuning"]) for arms in ([NONE], JITTERS, PERTURBED)]
    for share in (SMALL, POOL):
        for seed in SEEDS:
            for arm in best:
                run(arm, share, seed)
    return best, runs


def key(arm: Arm, share: float, seed: int) -> str:
    return f"{arm.name} | {arm.setting} | {share:g} | {seed}"


def fit(pool: Pool, arm: Arm, share: float, seed: int) -> dict:
    """Train one classifier; its accuracy on the tuning and the test photos."""
    count = round(len(pool.labels) * share / POOL)
    first = seed * count if share < POOL else 0
    rows = np.arange(first, first + count)
    torch.manual_seed(seed)  # ColorJitter draws from the global generator
    generator = torch.Generator().manual_seed(seed)
    model = Classifier(int(pool.labels.max()) + 1).to(memory_format=torch.channels_last)
    batches = count // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS[share] * batches)
    started = time.monotonic()
    for _ in range(EPOCHS[share]):
        model.train()
        for chosen in rows[torch.randperm(count, generator=generator)][: batches * BATCH].reshape(batches, BATCH):
            chosen = np.sort(chosen)
            x = augmented(torch.from_numpy(pool.layers[chosen].astype(np.float32)), arm, generator)
            loss = F.cross_entropy(model(x), pool.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return {
        "tuning": round(accuracy(model, pool.tuning), 4),
        "test": round(accuracy(model, pool.test), 4),
        "loss": round(float(loss.detach()), 4),
        "seconds": round(time.monotonic() - started, 1),
    }


def run(name: str, data: Path, out: Path) -> Findings:
    """Findings on `data`, {train,val}/CLASS/*.jpg, with the channels of a model. A stopped run resumes.

    Raises:
        ValueError: no such model.
        ValueError: a class of the model has no photos.
        ValueError: `out` holds the layers of other photos or weights.
    """
    pool = gather(data, load(name), fingerprint(name), out, POOL, TUNING)
    arms, runs = trained(pool, out)
    test = {arm.name: {share: [runs[key(arm, share, s)]["test"] for s in SEEDS] for share in EPOCHS} for arm in arms}
    numbers = {
        "photos": {f"{share:.0%}": round(len(pool.labels) * share / POOL) for share in EPOCHS},
        "chosen": {arm.name: arm.setting for arm in arms},
        "test accuracy": {arm: {f"{share:.0%}": values for share, values in own.items()} for arm, own in test.items()},
        "runs": runs,
    }
    seconds = sum(one["seconds"] for one in runs.values())
    figures = {"accuracy": ("Test accuracy of each seed (dots) and their mean.", drawn(test))}
    command = f"decomp lab augmentation --data DATA --model {name}"
    return write(out, "Augmentation by perturbed channels", command, seconds, numbers, claims(test), figures)


def claims(test: dict[str, dict[float, list[float]]]) -> list[Claim]:
    """Rules: a difference counts where its mean over the seeds is beyond its standard error."""
    plain, jitter, ours = (np.array([test[name][share] for share in EPOCHS]) for name in test)  # (shares, seeds)
    shown = lambda a: " and ".join(f"{100 * mean:.1f} %" for mean in a.mean(axis=1))
    error = lambda difference: difference.std(axis=1, ddof=1) / np.sqrt(len(SEEDS))
    return [
        Claim(
            "Perturbed channels help a classifier that has few photos.",
            "section 7",
            f"at 5 and 20 % of the photos {shown(ours)}, mirrored only {shown(plain)}",
            bool(((ours - plain).mean(axis=1) > error(ours - plain)).all()),
        ),
        Claim(
            "They do no worse than colour jitter, tuned alike.",
            "ours",
            f"at 5 and 20 % of the photos {shown(ours)}, colour jitter {shown(jitter)}",
            bool(((ours - jitter).mean(axis=1) > -error(ours - jitter)).all()),
        ),
    ]


def drawn(test: dict[str, dict[float, list[float]]]) -> Figure:
    """One panel a share: dots for the seeds, a bar for their mean."""
    figure, axes = panels(len(EPOCHS), 4.6)
    for a, share in zip(axes, EPOCHS):
        for i, (name, own) in enumerate(test.items()):
            a.bar(i, 100 * np.mean(own[share]), color="#9db8c7", label=name)
            a.plot(len(SEEDS) * [i], 100 * np.array(own[share]), "o", color="#20303a")
        lowest = min(min(own[share]) for own in test.values())
        a.set(title=f"{share:.0%} of the photos", ylabel="test accuracy in %", ylim=(100 * lowest - 5, 100))
        a.set_xticks(range(len(test)), test)
    return figure
