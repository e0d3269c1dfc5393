"""`domain="auto"`: which class a photo belongs to, or none, by a small network trained on the same real photos."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .files import atomic

FILE = "classes.safetensors"
CERTAIN = 0.8  # a class is stated from this calibrated probability on


class DomainClassifier(nn.Module):
    """Four stride-2 stages on the photo at 64 x 64, then one linear layer: about 0.16 M parameters.

    The linear layer has the classes only. `Recognition`, fitted afterwards and kept in its own file, calibrates
    `probabilities` and adds the outcome that a photo shows none of them; the network stays unchanged.
    """

    SIDE = 64
    WIDTHS = (3, 24, 48, 96, 128)

    def __init__(self, domains: int):
        super().__init__()
        stages = []
        for i, o in zip(self.WIDTHS[:-1], self.WIDTHS[1:]):
            stages += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(self.WIDTHS[-1], domains)
        self.recognition: Recognition | None = None

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b domains"]:
        """Logits of each class for photos in [-1, 1] of any size."""
        return self.head(F.dropout(self.stages(self.shrunk(x)).mean(dim=(2, 3)), 0.3, self.training))

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b features"]:
        """Mean and standard deviation of every stage's maps."""
        pooled: list[Tensor] = []
        x = self.shrunk(x)
        for layer in self.stages:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pooled += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
        return torch.cat(pooled, dim=1)

    def probabilities(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b outcomes"]:
        """Probability of each class and, last, of none; without a `Recognition` uncalibrated, the last being 0."""
        if self.recognition is None:
            return F.pad(self(x).softmax(dim=1), (0, 1))
        return self.recognition(self.features(x))

    def shrunk(self, x: Tensor) -> Tensor:
        return F.interpolate(x, (self.SIDE, self.SIDE), mode="bilinear", antialias=True, align_corners=False)


class Recognition:
    """Multinomial logistic regression on the classifier's features: each class, and none of them.

    Fitted by `training.classifier.recognition`, where other things and badly cut faces are the last outcome, and
    calibrated by a temperature on photos it was not fitted on.
    """

    def __init__(self, weight: Float[Tensor, "outcomes features"], bias: Float[Tensor, "outcomes"]):
        self.weight, self.bias = weight, bias

    def __call__(self, features: Float[Tensor, "b features"]) -> Float[Tensor, "b outcomes"]:
        """Calibrated probabilities."""
        return F.linear(features.cpu(), self.weight, self.bias).softmax(dim=1)

    def write(self, folder: Path) -> None:
        """Write `folder/classes.safetensors`, whole or not at all."""
        with atomic(folder / FILE) as temporary:
            save_file({"weight": self.weight.contiguous(), "bias": self.bias}, temporary)
            temporary.chmod(0o644)  # it is saved for its owner alone

    @classmethod
    def read(cls, folder: Path, domains: int) -> "Recognition | None":
        """What stands in a model's folder; None where it was not measured.

        Raises:
            ValueError: the file is damaged.
            ValueError: it belongs to other classes.
        """
        if not (folder / FILE).is_file():
            return None
        tensors = load_file(folder / FILE)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        wanted = {"weight": (domains + 1, 2 * sum(DomainClassifier.WIDTHS[1:])), "bias": (domains + 1,)}
        if shapes != wanted or not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError(f"{FILE} holds {shapes}; finite tensors {wanted} are needed")
        return cls(tensors["weight"].float(), tensors["bias"].float())
