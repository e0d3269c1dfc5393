"""Where the bundled models lie; `weights/<name>/{config.json, channels.json, model.safetensors, README.md}`."""

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent
# an installed wheel carries the weights inside the package, a checkout beside it
WEIGHTS = PACKAGE / "bundled" if (PACKAGE / "bundled").is_dir() else PACKAGE.parent / "weights"


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in WEIGHTS.glob("*/model.safetensors"))


def fingerprint(weights: str | Path) -> str | None:
    """SHA-256 of the `model.safetensors` of a bundled model or a folder; None for a hub id."""
    file = (WEIGHTS / str(weights) if str(weights) in bundled() else Path(weights)) / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
