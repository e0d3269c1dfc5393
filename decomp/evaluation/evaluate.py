"""How good a model is: every figure of `decomp evaluate`, on validation photos that it was not trained on.

Photos pass the network in batches of `BATCH`. Each class below keeps sums or short feature vectors only: nine channels
of 650 photos at 256 pixels would be five gigabytes.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from kornia.metrics import ssim
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from .. import metrics, photos, pretrained
from ..data.dataset import square
from ..decomposer import Decomposer
from ..decomposition import to_bytes
from ..eyes.marked import marked
from ..faces import find_face
from ..generator import Output
from ..photos import PhotoError
from .channel_figures import ChannelFigures

BATCH = 16
EYE = 0.18  # radius of the disc around a marked eye, in units of the distance between the two eyes

Labelled = list[tuple[Path, int]]  # photos and their classes


class EvaluationError(ValueError):
    """A requested figure is not available for this model, or a package for it is missing."""


def labelled(root: Path, split: str, domains: Sequence[str], per_domain: int | None = None) -> Labelled:
    """The photos of `root/split/{domain}` (all, or so many of each class, evenly spread) and their classes.

    Raises:
        PhotoError: a class has no folder, or no photo in it.
    """
    chosen = []
    for label, domain in enumerate(domains):
        files = photos.find(root / split / domain)
        if not files:
            raise PhotoError(f"{root / split / domain}: holds no photos; accepted: {', '.join(photos.SUFFIXES)}")
        positions = np.linspace(0, len(files) - 1, min(per_domain or len(files), len(files))).round().astype(int)
        chosen += [(files[i], label) for i in positions]
    return chosen


def batches(chosen: Labelled, model: Decomposer, what: str, size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Centre squares (B, 3, s, s) in [-1, 1], s the model's size, and their classes (B,), with a progress bar."""
    with tqdm(total=len(chosen), desc=what, unit="photo") as bar:
        for start in range(0, len(chosen), BATCH):
            files, labels = zip(*chosen[start : start + BATCH])
            x = torch.from_numpy(np.stack([square(file, size or model.config.size) for file in files])).permute(
                0, 3, 1, 2
            )
            yield x.to(model.device), torch.tensor(labels, device=model.device)
            bar.update(len(files))


@torch.inference_mode()
def evaluate(
    model: Decomposer,
    data: Path,
    per_domain: int | None = None,
    against: Decomposer | None = None,
    eyes: Path | None = None,
    fid: bool = False,
    size: int | None = None,
    other: Sequence[Path] = (),
) -> dict:
    """All figures as a dictionary for JSON; `report.SECTIONS` explains them.

    Args:
        model: on the device to compute on.
        data: folder with `val/{domain}/*`; with `train/{domain}/*` too, see `Distances`.
        per_domain: so many photos of each class, evenly spread, and so many of those with marked eyes; None: all.
        against: a second model, trained from another seed, see `Stability`.
        eyes: folder of cats with marked eyes, see `marked_eyes`.
        fid: also measure FID, whose Inception network may have to be downloaded.
        size: of the squares in pixels; default: the size that the model was trained at.
        other: photos of none of the classes, see `auto`.
    Raises:
        PhotoError: a folder or a photo cannot be read.
        EvaluationError: FID is not available.
        EvaluationError: the second model lacks a class, or `eyes` are given for a model without cats.
        EvaluationError: the model's pictures are not finite.
    """
    domains, size = model.config.domains, size or model.config.size
    chosen = labelled(data, "val", domains, per_domain)
    marked = marked_eyes(eyes, model, per_domain) if eyes else None
    left_out = []

    def unless_missing(judge):
        try:
            return judge()
        except pretrained.Unavailable as error:
            left_out.append(str(error))

    networks = {"fd_efficientnet_lite0": unless_missing(pretrained.efficientnet_lite0)}
    if fid:
        try:
            networks["fid"] = pretrained.inception()
        except pretrained.Unavailable as error:
            raise EvaluationError(str(error)) from error
    distances = [Distances(name, network, domains) for name, network in networks.items() if network]
    lpips = unless_missing(pretrained.lpips_vgg)
    likeness = Likeness(lpips, domains)
    of_channels = ChannelFigures(model.generator, lpips)
    summary, exactness, shares = metrics.Summary(), Exactness(), TransferShares(model)
    stability = Stability(model, against) if against else None

    for x, y in batches(chosen, model, "validation photos", size):
        output = model.generator(x, y)
        if not torch.isfinite(output.image).all():
            raise EvaluationError("the model's pictures hold values that are not finite: these weights are broken")
        summary.add(x, output)
        exactness.add(x, output)
        likeness.add(x, y, output)
        of_channels.add(x, y, output)
        shares.add("real", x, y, y)
        shares.add("regenerated", output.image, y, y)
        for distance in distances:
            distance.add("real", x, y)
            distance.add("regenerated", output.image, y)
            distance.add("residual", output.residual, y)
        if stability:
            stability.add(x, y, output)
        for shift in range(1, len(domains)):
            target = (y + shift) % len(domains)
            transferred = model.generator(x, target, source=y)
            if shift == 1:
                of_channels.add_next_class(output, transferred)
            shares.add("transferred", transferred.image, y, target)
            for distance in distances:
                distance.add("transferred", transferred.image, target)
    if distances and all((data / "train" / domain).is_dir() for domain in domains):
        as_many = max(sum(label == k for _, label in chosen) for k in range(len(domains)))
        for x, y in batches(labelled(data, "train", domains, as_many), model, "training photos", size):
            for distance in distances:
                distance.add("training", x, y)

    figures = {"photos": len(chosen), "domains": list(domains), "size": size, **exactness.figures()}
    figures |= cost(model, x[:1], y[:1]) | auto(model, chosen, other) | likeness.figures()
    figures |= {
        "channels": list(model.names),
        "asked_for": list(model.facts.asked_for),
        **summary.figures(),
        **of_channels.figures(),
    }
    figures["linear_share_mean"] = float(np.mean(figures["linear_share"]))
    figures["input_correlation_mean"] = float(np.mean(np.abs(figures["input_correlation"])))
    figures["covariance"] = summary.moments.covariance().tolist()
    figures["correlation"] = summary.correlation().tolist()
    figures |= shares.figures()
    for distance in distances:
        figures |= distance.figures()
    if marked:
        figures["eyes"] = eye_concentration(model, marked)
    if stability:
        figures["stability"] = stability.figures()
    return figures | {"left_out": left_out}


class Exactness:
    """Largest errors of the two identities that hold for any weights."""

    def __init__(self):
        self.diffusion = self.layers = 0.0

    def add(self, x: Tensor, output: Output) -> None:
        unexplained = x - output.image
        layers = output.residual + output.channels.sum(dim=1) + unexplained
        self.diffusion = max(self.diffusion, float((output.residual + output.phi.sum(dim=1) - x).abs().max()))
        self.layers = max(self.layers, float((layers - x).abs().max()))

    def figures(self) -> dict:
        return {"identity_error_diffusion": self.diffusion, "identity_error_layers": self.layers}


class Likeness:
    """SSIM and LPIPS of the re-generated photo to the photo, and of R alone; LPIPS is None if it is not installed."""

    def __init__(self, lpips: pretrained.Distance | None, domains: Sequence[str]):
        self.lpips, self.domains = lpips, domains
        self.values = defaultdict(list)  # (figure, class) -> one number a photo

    def add(self, x: Tensor, y: Tensor, output: Output) -> None:
        for name, pictures in {"": output.image, "_of_residual": output.residual}.items():
            for picture, photo, k in zip(pictures.clamp(-1, 1), x, y.tolist()):
                picture, photo = picture[None], photo[None]
                self.values["ssim" + name, k].append(float(ssim((picture + 1) / 2, (photo + 1) / 2, 11).mean()))
                if self.lpips:
                    self.values["lpips_vgg" + name, k].append(self.lpips(picture, photo))

    def figures(self) -> dict:
        figures = {"lpips_vgg": None, "lpips_vgg_of_residual": None}
        for name in dict.fromkeys(name for name, _ in self.values):
            of_class = {d: self.values[name, k] for k, d in enumerate(self.domains) if self.values[name, k]}
            figures[name] = float(np.mean(np.concatenate(list(of_class.values()))))
            figures[f"{name}_per_class"] = {d: float(np.mean(values)) for d, values in of_class.items()}
        return figures


class TransferShares:
    """Share of pictures that the model's classifier, trained on real photos only, puts in the target class."""

    def __init__(self, model: Decomposer):
        self.classifier, self.domains = model.classifier, model.config.domains
        self.hits = defaultdict(list)

    def add(self, what: str, pictures: Tensor, source: Tensor, wanted: Tensor) -> None:
        right = self.classifier(pictures.clamp(-1, 1)).argmax(dim=1) == wanted
        for a, b, hit in zip(source.tolist(), wanted.tolist(), right.tolist()):
            self.hits[what, a, b].append(hit)

    def figures(self) -> dict:
        share = lambda what: [hit for (name, *_), hits in self.hits.items() if name == what for hit in hits]
        figures = {f"accuracy_{what}": float(np.mean(share(what) or [np.nan])) for what in ("real", "regenerated")}
        if len(self.domains) < 2:
            return figures
        pairs = {
            a: {b: float(np.mean(self.hits["transferred", i, j])) for j, b in enumerate(self.domains) if i != j}
            for i, a in enumerate(self.domains)
        }
        return figures | {"accuracy_transferred": float(np.mean(share("transferred"))), "accuracy_of_pairs": pairs}


class Distances:
    """Frechet distances of re-generated and transferred photos to real validation photos, on one network's features.

    For comparison: those of the photos before the transfer, and of as many real training photos. The latter is the
    lowest value to expect; with a few hundred photos it is far from zero.
    """

    def __init__(self, name: str, network: pretrained.Features, domains: Sequence[str]):
        self.name, self.network, self.domains = name, network, domains
        self.rows = defaultdict(list)

    def add(self, what: str, pictures: Tensor, labels: Tensor) -> None:
        in_bytes = torch.from_numpy(to_bytes(pictures.cpu().numpy())).to(pictures.device)
        features = self.network(in_bytes).cpu()
        for row, label in zip(features, labels.tolist()):
            self.rows[what, label].append(row)

    def distance(self, what: str, labels: Sequence[int], reference: Sequence[int]) -> float | None:
        """From the pictures of these classes to the real photos of the reference classes; None with fewer than two."""
        sets = [[row for k in of for row in self.rows[name, k]] for name, of in ((what, labels), ("real", reference))]
        return pretrained.frechet(*map(torch.stack, sets)) if all(sets) else None

    def figures(self) -> dict:
        every = range(len(self.domains))
        asked = {self.name: ("regenerated", every, every), f"{self.name}_of_residual": ("residual", every, every)}
        transfer = {}
        for k, domain in enumerate(self.domains if len(self.domains) > 1 else ()):
            others = [j for j in every if j != k]
            transfer[domain, ""] = ("transferred", [k], [k])
            transfer[domain, "_of_source"] = ("real", others, [k])
            transfer[domain, "_of_training"] = ("training", [k], [k])
        measured = {name: self.distance(*sets) for name, sets in tqdm((asked | transfer).items(), self.name)}
        figures = {name: measured[name] for name in asked}
        for ending in ("", "_of_source", "_of_training"):
            of_class = {domain: measured[domain, e] for domain, e in transfer if e == ending}
            if of_class and None not in of_class.values():
                figures[f"transfer_{self.name}{ending}"] = float(np.mean(list(of_class.values())))
                figures[f"transfer_{self.name}{ending}_per_class"] = of_class
        return figures


class Stability:
    """Do the same channels come out of another seed? Active channels of two models over the same photos, matched.

    Correlations are taken within each photo and averaged over photos; then channels are matched one to one so that the
    sum of absolute correlations is largest. The mean over random assignments is the mean over all pairs.
    """

    def __init__(self, model: Decomposer, against: Decomposer):
        if missing := set(model.config.domains) - set(against.config.domains):
            raise EvaluationError(f"the second model has no class {', '.join(sorted(missing))}; both need the same")
        self.against, self.names = against.to(model.device), (model.names, against.names)
        self.labels = torch.tensor([against.domain_index(d) for d in model.config.domains], device=model.device)
        self.photos, self.correlation, self.energies = 0, 0, [0, 0]

    def add(self, x: Tensor, y: Tensor, output: Output) -> None:
        v, w = output.channels, self.against.generator(x, self.labels[y]).channels
        self.photos += len(x)
        self.correlation = self.correlation + metrics.within_photo(v, w).sum(dim=0).cpu()
        self.energies = [e + len(x) * metrics.rms(u).square().cpu() for e, u in zip(self.energies, (v, w))]

    def figures(self) -> dict:
        first, second = (np.flatnonzero(metrics.strong(e.sqrt())) for e in self.energies)
        correlation = (self.correlation / self.photos).abs().numpy()[np.ix_(first, second)]
        pairs = sorted(zip(*linear_sum_assignment(correlation, maximize=True)), key=lambda pair: -correlation[pair])
        label = lambda names, k: {"channel": int(k) + 1, "name": names[k]}
        return {
            "mean": float(np.mean([correlation[pair] for pair in pairs])),
            "mean_of_random_pairs": float(correlation.mean()),
            "pairs": [
                {
                    "first": label(self.names[0], first[i]),
                    "second": label(self.names[1], second[j]),
                    "correlation": float(correlation[i, j]),
                }
                for i, j in pairs
            ],
        }


def cost(model: Decomposer, x: Tensor, y: Tensor) -> dict:
    """Sizes, and multiply-accumulates in billions for one photo."""
    with FlopCounterMode(display=False) as counter:
        model.generator(x, y)
    count = lambda module: sum(p.numel() for p in module.parameters())
    return {
        "parameters": count(model.generator),
        "parameters_of_p": count(model.generator.split),
        "gmac": counter.get_total_flops() / 2e9,
    }


def auto(model: Decomposer, chosen: Labelled, other: Sequence[Path] = ()) -> dict:
    """How well `domain="auto"` classifies photos, as in `decompose`, with the search for the face.

    Args:
        chosen: photos of the model's classes.
        other: photos of anything else, for which no class should be stated.
    """
    domains, right, rows = model.config.domains, defaultdict(list), []
    for path, label in tqdm([*chosen, *((path, None) for path in other)], "classes", unit="photo"):
        confidence = model.classify(photos.load(path))
        guess, stated = model.guess(confidence), model.stated(confidence)
        true = None if label is None else model.spoken(domains[label])
        rows.append((guess[1], guess[0] == true, stated is not None, label is None))
        if label is not None:
            right[label].append(max(confidence, key=confidence.get) == domains[label])
    probability, correct, stated, is_other = map(np.array, zip(*rows))
    share = lambda of, among: float(of[among].mean()) if among.any() else None
    return {
        "auto_accuracy": float(np.mean(np.concatenate(list(right.values())))),
        "auto_accuracy_per_class": {d: float(np.mean(right[k])) for k, d in enumerate(domains)},
        "auto_stated": share(stated, ~is_other),
        "auto_stated_right": share(correct, stated & ~is_other),
        "auto_stated_of_other": share(stated, is_other),
        "reliability": reliability(probability, correct),
    }


def reliability(probability: np.ndarray, correct: np.ndarray, bins: int = 10) -> dict:
    """Accuracy by predicted probability, in bins of equal width, and the expected calibration error."""
    which = np.minimum((probability * bins).astype(int), bins - 1)
    rows = [
        {"said": float(probability[which == k].mean()), "right": float(correct[which == k].mean()), "photos": int(n)}
        for k, n in enumerate(np.bincount(which, minlength=bins))
        if n
    ]
    error = sum(row["photos"] * abs(row["said"] - row["right"]) for row in rows) / len(probability)
    return {"bins": rows, "expected_calibration_error": float(error)}


def marked_eyes(folder: Path, model: Decomposer, limit: int | None = None) -> list[tuple[Path, np.ndarray]]:
    """Photos of cats and their eyes (2, 2), as (x, y) in pixels of the photo: `folder/crops.json`, see `eyes.marked`.

    Raises:
        EvaluationError: the model has no class "cat".
        PhotoError: there is no such list.
    """
    domains = model.config.domains
    if "cat" not in domains:
        raise EvaluationError(f"eyes are measured on cats; the classes of this model are {', '.join(domains)}")
    return [(m.path, m.eyes) for m in marked(folder, "crops")[:limit]]


def eye_discs(path: Path, eyes: np.ndarray, size: int) -> Tensor:
    """Boolean (size, size): the discs around both eyes in the photo's centre square."""
    box = find_face(photos.load(path), "centre")
    at = (np.arange(size) + 0.5) * box.side / size
    x, y = np.meshgrid(at + box.left, at + box.top)
    radius = EYE * np.hypot(*(eyes[1] - eyes[0]))
    return torch.from_numpy(np.any([np.hypot(x - ex, y - ey) < radius for ex, ey in eyes], axis=0))


def eye_concentration(model: Decomposer, marked: list[tuple[Path, np.ndarray]]) -> dict:
    """Energy per pixel at the eyes against that of the whole square, for each channel and for the detail x - R.

    1: the channel is not stronger at the eyes. Each channel's mean in a photo is subtracted.
    """
    label = model.domain_index("cat")
    at_eyes = whole = pixels = 0  # sums over photos; the last row is the detail x - R
    positions = iter(marked)
    for x, y in batches([(path, label) for path, _ in marked], model, "eyes"):
        output = model.generator(x, y)
        layers = torch.cat([output.channels, (x - output.residual)[:, None]], dim=1)  # (B, M + 1, 3, s, s)
        power = (layers - layers.mean(dim=(3, 4), keepdim=True)).square().mean(dim=2).double().cpu()
        masks = torch.stack([eye_discs(*next(positions), model.config.size) for _ in x])
        at_eyes = at_eyes + (power * masks[:, None]).sum(dim=(0, 2, 3))
        whole, pixels = whole + power.mean(dim=(2, 3)).sum(dim=0), pixels + int(masks.sum())
    ratio = (at_eyes / pixels) / (whole / len(marked))
    *channels, detail = ratio.tolist()
    strong = metrics.strong(whole[:-1].sqrt())
    best = max(np.flatnonzero(strong).tolist(), key=channels.__getitem__)
    return {
        "photos": len(marked),
        "concentration": channels,
        "concentration_of_detail": detail,
        "best": {"channel": best + 1, "name": model.names[best], "concentration": channels[best]},
    }
