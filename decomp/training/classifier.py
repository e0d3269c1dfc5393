"""Training of the classifier behind `domain="auto"`, and the calibration of its probabilities."""

import numpy as np
import torch
import torch.nn.functional as F
from kornia import augmentation
from torch import Tensor, nn
from tqdm import tqdm

from ..classifier import DomainClassifier, Recognition

CUT = (0.3, 0.55)  # parts of a face photo's side that are no face any more: a nose, an ear
PER_CLASS = 1000  # photos of each class that the regression is fitted on, evenly spread
CALIBRATED_ON = 5  # every fifth photo is left out of the regression, for the temperature


def fit(classifier: DomainClassifier, photos: list[Tensor], epochs: int = 20, batch: int = 64) -> None:
    """Train on uint8 photos (N_d, 3, h, w), one tensor per class, drawn equally often; leaves it in eval mode.

    The framing is varied more than in the generator's training (scale 0.5 to 1), because a found face box is less
    exact than a curated crop.
    """
    side = (classifier.SIDE, classifier.SIDE)
    augment = nn.Sequential(  # for each photo of a batch on its own
        augmentation.RandomResizedCrop(side, scale=(0.5, 1), ratio=(0.9, 1.1)),
        augmentation.RandomHorizontalFlip(),
        augmentation.ColorJiggle(0.3, 0.3, 0.3, 0.03),
    )
    steps = epochs * sum(len(p) for p in photos) // batch
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    classifier.train()
    for _ in tqdm(range(steps), "classes"):
        labels = torch.arange(batch) % len(photos)
        x = torch.stack([photos[y][torch.randint(len(photos[y]), ())] for y in labels]).float() / 255
        loss = F.cross_entropy(classifier(augment(x) * 2 - 1), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    classifier.eval()


def recognition(classifier: DomainClassifier, photos: list[Tensor], other: Tensor, seed: int = 0) -> Recognition:
    """Fit the probabilities of each class and of none: scikit-learn's logistic regression, then one temperature.

    Every outcome has the same weight, so the probabilities assume that all outcomes are equally frequent.

    Args:
        photos: uint8 (N_d, 3, h, w), one tensor for each class, framed on the face.
        other: uint8 (N, 3, h, w), photos of anything else, possibly none. Patterns and pieces of the faces are added.
    """
    from scipy.optimize import minimize_scalar

    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ModuleNotFoundError as error:
        raise ValueError("this needs scikit-learn; install it with: pip install 'decomp[train]'") from error

    rng = np.random.default_rng(seed)
    side = classifier.SIDE
    photos = [of[:: -(-len(of) // PER_CLASS)] for of in photos]
    outcomes = [_pieces(of, (0.75, 1.0), side, rng) for of in photos]
    pieces = [_pieces(of[::3], CUT, side, rng) for of in photos]
    outcomes.append(torch.cat([*_pieces(other, (0.9, 1.0), side, rng).split(256), *pieces, _patterns(side, rng)]))
    with torch.inference_mode():
        batches = [part for of in outcomes for part in of.split(256)]
        x = torch.cat([classifier.features(part / 127.5 - 1) for part in tqdm(batches, "recognition")]).numpy()
    y = np.repeat(np.arange(len(outcomes)), [len(of) for of in outcomes])
    held = np.zeros(len(y), bool)
    for k in range(len(outcomes)):
        held[np.flatnonzero(y == k)[::CALIBRATED_ON]] = True

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, class_weight="balanced", max_iter=2000))
    model.fit(x[~held], y[~held])
    scaler, regression = model[0], model[1]
    weight, bias = regression.coef_, regression.intercept_
    if len(outcomes) == 2:  # of two outcomes scikit-learn gives the second one's margin
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    logits = torch.from_numpy(scaler.transform(x[held]) @ weight.T + bias)
    weights = torch.tensor([1 / (y[held] == k).sum() for k in range(len(outcomes))], dtype=logits.dtype)
    loss = lambda log_t: float(F.cross_entropy(logits / np.exp(log_t), torch.from_numpy(y[held]), weights))
    temperature = np.exp(minimize_scalar(loss, method="bounded", bounds=(-2, 3)).x)
    weight = weight / scaler.scale_ / temperature
    bias = bias / temperature - weight @ scaler.mean_
    return Recognition(torch.from_numpy(weight).float(), torch.from_numpy(bias).float())


def _pieces(photos: Tensor, part: tuple[float, float], side: int, rng: np.random.Generator) -> Tensor:
    """One square out of each photo, of a random part of its side, half of them mirrored: (N, 3, side, side) float."""
    pieces = []
    for photo in photos:
        length = int(min(photo.shape[1:]) * rng.uniform(*part))
        top, left = (rng.integers(0, room - length + 1) for room in photo.shape[1:])
        piece = photo[None, :, top : top + length, left : left + length].float()
        piece = F.interpolate(piece, (side, side), mode="bilinear", antialias=True, align_corners=False)
        pieces.append(piece.flip(3) if rng.random() < 0.5 else piece)
    return torch.cat(pieces) if pieces else torch.empty(0, 3, side, side)


def _patterns(side: int, rng: np.random.Generator, count: int = 600) -> Tensor:
    """Plain colours, gradients, noise in blocks, stripes and waves: (count, 3, side, side) float in [0, 255]."""
    y, x = np.mgrid[:side, :side] / side
    made = []
    for k in range(count):
        angle, turns = rng.uniform(0, np.pi), rng.uniform(1, 20)
        across = np.cos(angle) * x + np.sin(angle) * y
        wave = lambda: np.cos(2 * np.pi * (rng.uniform(-3, 3) * x + rng.uniform(-3, 3) * y) + rng.uniform(0, 6))
        block = rng.choice([1, 2, 4, 8, 16])
        noise = np.kron(rng.random((side // block, side // block)), np.ones((block, block)))
        stripes = np.sin(2 * np.pi * turns * across) > 0
        share = (0 * x, across, noise, stripes, sum(wave() for _ in range(6)))[k % 5].astype(float)
        share = (share - share.min()) / max(np.ptp(share), 1e-9)
        one, other = rng.uniform(0, 255, (2, 3, 1, 1))
        made.append(one * (1 - share) + other * share + rng.normal(0, rng.choice([0, 3, 10]), (3, side, side)))
    return torch.from_numpy(np.clip(np.stack(made), 0, 255)).float()
