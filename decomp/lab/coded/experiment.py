"""Coded ResNeXt on CIFAR-10: training of the coded network and its controls, and everything measured on them."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchmetrics.functional.classification import multiclass_calibration_error
from torchvision.transforms import v2
from tqdm import tqdm

from ...codes import coding_loss, decode
from ...codes import normalised as normal
from .. import configuration, resume
from ..cifar.classifier import augmented, decayed, normalised
from ..cifar.images import Images, load
from ..findings import Claim, Findings, write
from .method import CodedResNeXt, Output, Stage, carve

BINS = 15  # of confidence, in the calibration errors
CLOSE = 1000  # images for the measures that need many passes


@dataclass(frozen=True)
class Variant:
    """One network of the experiment: the paper's, or a control that lacks one component."""

    normalise: bool = True  # energy normalisation, equation 6
    mu: float = 6.0  # weight of the coding loss
    drop: float = 0.1  # probability of DropSubNN
    exponent: float = 4.0  # of the coding loss


VARIANTS = {
    "coded": Variant(),
    "plain": Variant(normalise=False, mu=0.0, drop=0.0),
    "no-drop": Variant(drop=0.0),
    "no-loss": Variant(mu=0.0),
    "exponent-2": Variant(exponent=2.0),
}


@dataclass(frozen=True)
class Schedule:
    """Architecture and training, the same for all networks of one experiment; see the .toml files."""

    size: int  # pixels of a side; CIFAR-10 averaged down
    stem: int
    branches: int
    stages: tuple[Stage, ...]
    epochs: int
    batch: int
    lr: float  # highest of one cycle; SGD with Nesterov momentum 0.9
    warm_up: float  # share of the cycle
    weight_decay: float
    train: int  # images, from the first on
    test: int
    seeds: int
    variants: tuple[str, ...]  # of VARIANTS; "coded" and "plain" at least
    randaugment: tuple[int, int] = (0, 0)  # operations and magnitude; 0 turns it off


def configured(name: str) -> Schedule:
    """A bundled configuration ("coded-cpu", "coded-gpu") or the path of a TOML file.

    Raises:
        ValueError: there is no such configuration.
    """
    return configuration.read(Path(__file__).parent, name, schedule_of, ", ".join(Schedule.__annotations__))


def schedule_of(values: dict) -> Schedule:
    stages = tuple(Stage(**stage | {"code": tuple(stage.get("code", ()))}) for stage in values["stages"])
    variants = tuple(values["variants"])
    if set(variants) - set(VARIANTS) or not {"coded", "plain"} <= set(variants):
        raise KeyError(f"variants {variants}; coded, plain and any of {', '.join(VARIANTS)}")
    randaugment = tuple(values.get("randaugment", (0, 0)))
    return Schedule(**values | {"stages": stages, "variants": variants, "randaugment": randaugment})


# ------------------------------------------------------------------------------------------------------------ training


def fit(name: str, data: Images, schedule: Schedule, seed: int, folder: Path, device: torch.device):
    """The trained network of a variant and the seconds it took; stopped, it goes on after the last whole epoch."""
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    model = CodedResNeXt(schedule.stem, schedule.stages, schedule.branches, normalise=variant.normalise)
    model = model.to(device, memory_format=torch.channels_last)
    steps = len(data.labels) // schedule.batch
    optimizer = torch.optim.SGD(decayed(model, schedule.weight_decay), schedule.lr, momentum=0.9, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.lr, schedule.epochs * steps, pct_start=schedule.warm_up
    )
    codes = [code.to(device) for code in model.codes if code is not None]
    operations, magnitude = schedule.randaugment
    policy = v2.RandAugment(operations, magnitude) if operations else None

    def one_epoch(epoch: int) -> None:
        model.train()
        rng = torch.Generator().manual_seed(seed * 1000 + epoch)
        torch.manual_seed(seed * 1000 + epoch)  # RandAugment draws from the global one
        order = torch.randperm(len(data.labels), generator=rng)[: steps * schedule.batch]
        for chosen in tqdm(
            order.split(schedule.batch), f"{name}-{seed}: epoch {epoch + 1}/{schedule.epochs}", mininterval=5
        ):
            pixels = data.pixels[chosen]
            if policy:
                pixels = torch.stack([policy(p.permute(2, 0, 1)).permute(1, 2, 0) for p in pixels])
            x = augmented(normalised(pixels.to(device)), rng, schedule.size // 8)
            labels = data.labels[chosen].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits, energies = model(x, drop=variant.drop, rng=rng)
            loss = F.cross_entropy(logits.float(), labels)
            if variant.mu:
                terms = [coding_loss(e.float(), c, labels, variant.exponent) for e, c in zip(energies, codes)]
                loss = loss + variant.mu * sum(terms)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()

    settings = {
        "variant": asdict(variant),
        "schedule": repr(replace(schedule, seeds=0, test=0, variants=())),
        "seed": seed,
    }
    parts = {"model": model, "optimizer": optimizer, "cycle": cycle}
    seconds = resume.train(folder / f"{name}-{seed}.pt", settings, parts, schedule.epochs, one_epoch)
    return model.eval(), seconds


# ------------------------------------------------------------------------------------------------------------ measures


@torch.no_grad()
def outputs(model: CodedResNeXt, pixels: Tensor, batch: int = 500) -> Output:
    """Logits and energies of all images."""
    device = model.head.weight.device
    parts = [model(normalised(part.to(device))) for part in pixels.split(batch)]
    energies = [torch.cat(one).cpu() for one in zip(*(p.energies for p in parts))]
    return Output(torch.cat([p.logits for p in parts]).cpu(), energies)


def share(hits: Tensor) -> float:
    return float(hits.float().mean())


def guesses(model: CodedResNeXt, out: Output) -> Tensor:
    """Class predicted by the decoder of each coded block, (coded blocks, N)."""
    codes = [code for code in model.codes if code is not None]
    return torch.stack([decode(e, code) for e, code in zip(out.energies, codes)])


def agreement(decoded: Tensor, logits: Tensor, labels: Tensor) -> dict[str, dict]:
    """Accuracy by the number of decoders that agree with the softmax: {decoders: accuracy, images}."""
    best = logits.argmax(dim=1)
    votes = (decoded == best).sum(dim=0)
    groups = {}
    for count in range(len(decoded) + 1):
        chosen = votes == count
        if chosen.any():
            groups[str(count)] = {"accuracy": share((best == labels)[chosen]), "images": int(chosen.sum())}
    return groups


def early(decoded: Tensor, logits: Tensor, labels: Tensor, cost: list[float]) -> dict:
    """Stop as soon as two decoders in a row agree; `cost` (coded blocks) is the share of the work done by then."""
    best, spent, stopped = logits.argmax(dim=1), torch.ones(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    for i in range(1, len(decoded)):
        now = (decoded[i] == decoded[i - 1]) & ~stopped
        best, spent = torch.where(now, decoded[i], best), torch.where(now, torch.tensor(cost[i]), spent)
        stopped |= now
    return {"accuracy": share(best == labels), "work": float(spent.mean()), "stopped": share(stopped)}


@torch.no_grad()
def removal(model: CodedResNeXt, block: int, test: Images) -> dict[str, list[float]]:
    """Accuracy with k = 0, 1, .. random branches of the true class, or of the others, removed from one block."""
    device, words = model.head.weight.device, model.codes[block][test.labels]  # (N, branches)
    before = torch.cat([model.before(normalised(part.to(device)), block) for part in test.pixels.split(500)])
    rng, accuracies = torch.Generator().manual_seed(0), {}
    for name, removable in (("active", words), ("inactive", 1 - words)):
        order = (removable * torch.rand(words.shape, generator=rng)).argsort(dim=1, descending=True)
        accuracies[name] = []
        for k in range(int(removable[0].sum()) + 1):
            keep = torch.ones_like(words).scatter_(1, order[:, :k], 0.0)
            logits = model.after(before, block, {block: keep.to(device)}).logits
            accuracies[name].append(share(logits.argmax(dim=1).cpu() == test.labels))
    return accuracies


@torch.no_grad()
def binary(score: Tensor, labels: Tensor, threshold: float) -> dict[str, float]:
    """Precision, recall and F1 of score > threshold."""
    positive = (score > threshold).numpy()
    measures = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    return {name: float(f(labels.numpy(), positive, zero_division=0)) for name, f in measures.items()}


def best_threshold(score: Tensor, labels: Tensor) -> float:
    """Of the largest F1."""
    precision, recall, thresholds = precision_recall_curve(labels.numpy(), score.numpy())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    return float(thresholds[f1[:-1].argmax()]) - 1e-6


@torch.no_grad()
def carved(model: CodedResNeXt, tune: Images, test: Images) -> list[dict]:
    """Each class's own classifier: precision, recall, F1 on `test`, its threshold being chosen on `tune`."""
    device = model.head.weight.device
    first, figures = [code is not None for code in model.codes].index(True), []  # until there all classes share all
    known, new = (
        torch.cat([model.before(normalised(part.to(device)), first) for part in images.pixels.split(500)])
        for images in (tune, test)
    )
    for k in range(model.head.out_features):
        own = carve(model, k).to(device, memory_format=torch.channels_last)[first + 1 :]
        threshold = best_threshold(own(known)[:, 0].cpu(), tune.labels == k)
        figures.append(binary(own(new)[:, 0].cpu(), test.labels == k, threshold))
    return figures


def whole_logits(model: CodedResNeXt, tune: Images, test: Images) -> list[dict]:
    """The same from the logits of the whole network."""
    known, new = outputs(model, tune.pixels).logits, outputs(model, test.pixels).logits
    thresholds = [best_threshold(known[:, k], tune.labels == k) for k in range(known.shape[1])]
    return [binary(new[:, k], test.labels == k, t) for k, t in enumerate(thresholds)]


def calibration(logits: Tensor, decoded: Tensor, labels: Tensor, part: float = 0.25, splits: int = 10) -> dict:
    """Errors in percent after temperature scaling, plain and with the decoders: T (1 + sum_i tau_i [decoder i agrees]).

    Fitted on `part` of the images and measured on the others, a mean over random splits.
    """
    agree = (decoded == logits.argmax(dim=1)).float().mT  # (N, decoders)
    rng, errors = torch.Generator().manual_seed(0), {"temperature": [], "decoders": []}
    for _ in range(splits):
        order = torch.randperm(len(labels), generator=rng)
        fitted, rest = order[: int(part * len(order))], order[int(part * len(order)) :]
        for name, votes in (("temperature", torch.zeros_like(agree)), ("decoders", agree)):
            scale = fitted_scale(logits[fitted], votes[fitted], labels[fitted])
            probabilities = (logits[rest] * scale(votes[rest])).softmax(dim=1)
            errors[name].append([
                100 * float(multiclass_calibration_error(probabilities, labels[rest], logits.shape[1], BINS, norm))
                for norm in ("l1", "max")
            ])  # fmt: skip
    return {name: dict(zip(("ece", "mce"), np.mean(rows, axis=0).tolist())) for name, rows in errors.items()}


def fitted_scale(logits: Tensor, votes: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """votes (N, decoders) -> what the logits are multiplied by, T (1 + votes tau), of least cross-entropy here."""
    temperature, tau = torch.ones(1, requires_grad=True), torch.zeros(votes.shape[1], requires_grad=True)
    optimizer = torch.optim.SGD([temperature, tau], 0.1)
    for _ in range(600):
        optimizer.zero_grad()
        F.cross_entropy(logits * (temperature * (1 + votes @ tau))[:, None], labels).backward()
        optimizer.step()
    return lambda votes: (temperature * (1 + votes @ tau))[:, None].detach()


def work(model: nn.Module, size: int) -> float:
    """Multiplications and additions for one image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    return float(counter.get_total_flops())


@torch.no_grad()
def work_until(model: CodedResNeXt, size: int) -> list[float]:
    """Share of the network's work done when each coded block has been computed."""
    x, totals = torch.zeros(1, 3, size, size, device=model.head.weight.device), []
    with FlopCounterMode(display=False) as counter:
        x = model.stem(x)
        for block, code in zip(model.blocks, model.codes):
            x, _ = block(x)
            totals += [counter.get_total_flops()] if code is not None else []
        model.head(x.mean(dim=(2, 3)))
        whole = counter.get_total_flops()
    return [total / whole for total in totals]


@torch.no_grad()
def times(models: dict[str, nn.Module], size: int, rounds: int = 30) -> dict[str, float]:
    """Median seconds for one image, the networks taking turns."""
    device = next(next(iter(models.values())).parameters()).device
    x, spent = torch.zeros(1, 3, size, size, device=device), {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            began = time.perf_counter()
            model(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in spent.items()}


def last_blocks(model: CodedResNeXt) -> list[int]:
    """The last block of each code: where the paper removes branches."""
    coded = [(i, tuple(code.flatten().tolist())) for i, code in enumerate(model.codes) if code is not None]
    return list({code: i for i, code in coded}.values())


def measured(model: CodedResNeXt, variant: Variant, schedule: Schedule, tune: Images, test: Images) -> dict:
    """All numbers of one trained network."""
    out, few = outputs(model, test.pixels), test.first(CLOSE)
    numbers: dict = {"accuracy": share(out.logits.argmax(dim=1) == test.labels), "carved": carved(model, tune, few)}
    if not variant.normalise:
        return numbers | {"whole": whole_logits(model, tune, few)}
    decoded, labels = guesses(model, out), test.labels
    usage = [torch.stack([normal(e)[labels == k].mean(dim=0) for k in range(10)]) for e in out.energies]
    ratios = [float(code.mean()) for code in model.codes if code is not None]
    return numbers | {
        "decoders": [share(one == labels) for one in decoded],
        "agreement": agreement(decoded, out.logits, labels),
        "early": early(decoded, out.logits, labels, work_until(model, schedule.size)),
        "calibration": calibration(out.logits, decoded, labels),
        "removal": {str(block + 1): removal(model, block, few) for block in last_blocks(model)},
        "usage": [(ratio * one).tolist() for ratio, one in zip(ratios, usage)],  # coded blocks, class, branch
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
    tune = known.first(CLOSE)
    numbers: dict = {name: [] for name in schedule.variants}
    spent = 0.0
    for seed in range(schedule.seeds):
        for name in schedule.variants:
            model, seconds = fit(name, known, schedule, seed, out, device)
            began = time.monotonic()
            measure = partial(measured, model, VARIANTS[name], schedule, tune, test)
            numbers[name].append(
                resume.measured(out / f"{name}-{seed}.pt", {"test": schedule.test, "few": CLOSE}, measure)
            )
            spent += seconds + time.monotonic() - began
            if name == "coded" and seed == 0:
                numbers["carving"] = size_of_carved(model, schedule.size)
    numbers["schedule"] = asdict(schedule)
    checked = claims({name: numbers[name] for name in schedule.variants}, numbers["carving"])
    command = f"decomp lab coded --data DATA --config {config}"
    return write(out, "Coded ResNeXt on CIFAR-10", command, spent, numbers, checked, draw.figures(numbers, schedule))


def size_of_carved(model: CodedResNeXt, size: int) -> dict:
    """Parameters, work and time of one image for the whole network and for the classifier carved for class 0."""
    small = carve(model, 0).to(model.head.weight.device)
    parameters = lambda one: sum(p.numel() for p in one.parameters())
    models = {"whole": model, "carved": small}
    return {
        "parameters": {name: parameters(one) for name, one in models.items()},
        "work": {name: work(one, size) for name, one in models.items()},
        "seconds": times(models, size),
    }


# -------------------------------------------------------------------------------------------------------------- claims


def mean_of(runs: list[dict], *path: str) -> float:
    """Mean over the seeds of a number, or of a list of dicts' number, found by its path."""
    values = []
    for run in runs:
        value = run
        for key in path:
            value = np.mean([one[key] for one in value]) if isinstance(value, list) else value[key]
        values.append(float(value))
    return float(np.mean(values))


def claims(runs: dict[str, list[dict]], carving: dict) -> list[Claim]:
    """The paper's claims on CIFAR-10 beside ours; percentages, a mean over the seeds.

    Claims about a control that `runs` lacks are left out.
    """
    coded = runs["coded"]
    accuracy = {name: 100 * mean_of(one, "accuracy") for name, one in runs.items()}
    decoders = 100 * np.mean([run["decoders"] for run in coded], axis=0)
    precision = {name: 100 * mean_of(one, "carved", "precision") for name, one in runs.items()}
    recall = {name: 100 * mean_of(one, "carved", "recall") for name, one in runs.items()}
    blocks = list(coded[0]["removal"])
    curves = {
        b: {n: 100 * np.mean([r["removal"][b][n] for r in coded], axis=0) for n in ("active", "inactive")}
        for b in blocks
    }
    pairs = [(a, i) for c in curves.values() for a, i in list(zip(c["active"], c["inactive"]))[1:]]
    inactive = [value - c["inactive"][0] for c in curves.values() for value in c["inactive"][1:]]
    votes = coded[0]["agreement"]
    agreed = {key: 100 * votes[key]["accuracy"] for key in votes}
    fewest, most = min(agreed), max(agreed)
    quick = {key: 100 * mean_of(coded, "early", key) for key in ("accuracy", "work")}
    errors = {way: mean_of(coded, "calibration", way, "ece") for way in ("temperature", "decoders")}
    part = {key: carving[key]["carved"] / carving[key]["whole"] for key in ("parameters", "work", "seconds")}
    ends = lambda curve: f"{curve[0]:.1f} -> {curve[-1]:.1f}"
    checked = [
        Claim(
            "Codes do not cost accuracy; they raise it.",
            "accuracy on CIFAR-10",
            ", ".join(f"{name} {value:.1f}" for name, value in accuracy.items()),
            # a gain of 0.75 is below the noise of short runs: only a loss can be shown
            accuracy["coded"] > accuracy["plain"] - 1,
            paper="94.41 against 93.66",
            rule="not worse by more than 1 point; the gain itself is too small to tell",
        ),
        Claim(
            "Removing branches of the class costs more than removing others.",
            "figure 2a",
            "; ".join(
                f"block {b}: active {ends(c['active'])}, inactive {ends(c['inactive'])}" for b, c in curves.items()
            ),
            all(a < i for a, i in pairs),
            paper="active 94.4 -> 90, inactive 94.4 -> 95.3",
            rule="active below inactive for every number removed",
        ),
        Claim(
            "Removing branches of other classes does not cost accuracy.",
            "figure 2a",
            f"change of accuracy {min(inactive):+.1f} to {max(inactive):+.1f}",
            min(inactive) >= -0.5,
            paper="+0.9",
            rule="never worse by more than 0.5 point",
        ),
        Claim(
            "Decoders classify at every coded block, the better the deeper.",
            "figure 4",
            f"{', '.join(f'{d:.1f}' for d in decoders)}; softmax {accuracy['coded']:.1f}",
            bool(np.all(np.diff(decoders) > 0)) and decoders[-1] > accuracy["coded"] - 3,
            paper="72, 79, 86, 91, 93, 94; softmax 94.4",
            rule="rising with depth, the last within 3 points of the softmax",
        ),
        Claim(
            "The branches of one class are a classifier of it.",
            "binary classifiers",
            f"precision {precision['coded']:.0f}, recall {recall['coded']:.0f}; the same carved from plain "
            f"{precision['plain']:.0f}, {recall['plain']:.0f}",
            precision["coded"] >= 30 and precision["coded"] >= 2 * precision["plain"],
            paper="93, 77; plain 13, 56",
            rule="precision three times the base rate of 10, and twice that of plain",
        ),
        Claim(
            "The carved classifier is smaller.",
            "size of the binary classifiers",
            f"{100 * part['parameters']:.0f} % of the parameters, {100 * part['work']:.0f} % of the work, "
            f"{100 * part['seconds']:.0f} % of the time for one image",
            part["parameters"] < 0.6,
            paper="38 % of the parameters (46 % with all skip convolutions kept, as here)",
            rule="less than 60 % of the parameters",
        ),
        Claim(
            "The number of decoders that agree with the softmax shows how sure it is.",
            "agreement of decoders",
            ", ".join(f"{key} agree: {value:.0f}" for key, value in agreed.items()),
            agreed[most] > agreed[fewest] + 10,
            paper="none 52.0, five 92.1, six or more 98.1",
            rule="all agree at least 10 points above the fewest",
        ),
        Claim(
            "Decoders allow early decisions.",
            "early decoders",
            f"stopping when two in a row agree: {quick['accuracy']:.1f} for {quick['work']:.0f} % of the work; whole "
            f"{accuracy['coded']:.1f}",
            quick["accuracy"] > accuracy["coded"] - 2,
            paper="no such rule measured",
            rule="less than 2 points lost",
        ),
        Claim(
            "Decoders calibrate better than one temperature.",
            "calibration",
            f"expected calibration error {errors['temperature']:.2f} -> {errors['decoders']:.2f}",
            # the paper's own difference is nil on CIFAR-10
            None
            if abs(errors["temperature"] - errors["decoders"]) < 0.3
            else errors["decoders"] < errors["temperature"],
            paper="0.70 -> 0.70",
            rule="lower; a difference below 0.3 is too small to tell",
        ),
    ]
    if "no-drop" in runs:
        checked.append(
            Claim(
                "It needs DropSubNN.",
                "figure 5b",
                f"precision {precision['coded']:.0f} with, {precision['no-drop']:.0f} without",
                precision["coded"] >= 2 * precision["no-drop"],
                paper="93 with, 12 to 26 without",
                rule="precision twice that without dropping",
            )
        )
    if "exponent-2" in runs:
        checked.append(
            Claim(
                "Exponent 4 beats 2.",
                "ablation of the exponent",
                f"accuracy {accuracy['coded']:.1f} against {accuracy['exponent-2']:.1f}",
                None
                if len(coded) < 3 and abs(accuracy["coded"] - accuracy["exponent-2"]) < 2
                else accuracy["coded"] > accuracy["exponent-2"],
                paper="94.4 against 93.1",
                rule="higher; below 2 points with fewer than 3 seeds too small to tell",
            )
        )
    return checked
