"""Training of the classifier behind `domain="auto"`."""

import torch
import torch.nn.functional as F
from kornia import augmentation
from torch import Tensor, nn
from tqdm import tqdm

from ..classifier import DomainClassifier


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
