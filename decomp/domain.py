"""`domain="auto"`: which class a photo belongs to, told by a small network trained on the same real photos."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia import augmentation
from torch import Tensor, nn
from tqdm import tqdm


class DomainClassifier(nn.Module):
    """Four stride-2 stages on the photo at 64 x 64, then one linear layer: about 0.16 M parameters."""

    SIDE = 64
    WIDTHS = (3, 24, 48, 96, 128)

    def __init__(self, domains: int):
        super().__init__()
        stages = []
        for i, o in zip(self.WIDTHS[:-1], self.WIDTHS[1:]):
            stages += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(self.WIDTHS[-1], domains)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b domains"]:
        """Logits of each class for photos in [-1, 1] of any size."""
        x = F.interpolate(x, (self.SIDE, self.SIDE), mode="bilinear", antialias=True, align_corners=False)
        return self.head(F.dropout(self.stages(x).mean(dim=(2, 3)), 0.3, self.training))


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
