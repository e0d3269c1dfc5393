"""`domain="auto"`: which class a photo belongs to, told by a small network trained on the same real photos."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


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
