"""ResNet-18 for small images: He et al., "Deep Residual Learning for Image Recognition"; 3x3 stem, no max-pool."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FULL = (64, 128, 256, 512)  # 11.2 M parameters
SLIM = (5, 11, 22, 43)  # 80,973 parameters: sixteen of them are the paper's 1.3 M


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, each convolution followed by batch normalisation."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        project = [nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)]
        self.shortcut = nn.Sequential(*project) if stride > 1 or before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Logits of (n, 3, 32, 32) images.

    Args:
        widths: of the four stages.
        stride: of the stem; 1 as usual at this size, 2 for a quarter of the work.
    """

    def __init__(self, widths: tuple[int, int, int, int], stride: int = 1, classes: int = 10):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        befores = (widths[0], *widths[:-1])
        stages = [(Block(a, b, 1 + (i > 0)), Block(b, b, 1)) for i, (a, b) in enumerate(zip(befores, widths))]
        self.blocks = nn.Sequential(*(block for stage in stages for block in stage))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))
