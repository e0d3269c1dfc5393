"""decomp: decomposes a photo of a face into channels that a branched generator has learnt by itself.

The walk: photos.py -> faces.py -> diffusion.py -> generator.py -> decomposer.py -> decomposition.py.
"""

from importlib import import_module, metadata

# torch is only imported when one of these is first used
_HOMES = {
    "load": "decomposer",
    "choose": "choice",
    "Decomposer": "decomposer",
    "Decomposition": "decomposition",
    "ModelConfig": "config",
    "BranchedGenerator": "generator",
    "Discriminator": "training.critics.discriminator",
    "PerturbChannels": "augment",
    "align": "studio.swap",
    "swap": "studio.swap",
    "find_landmarks": "studio.landmarks",
    "relief": "studio.relief",
    "Photo": "photos",
    "PhotoError": "photos",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name == "__version__":
        return metadata.version("decomp")
    raise AttributeError(f"module 'decomp' has no attribute {name!r}")
