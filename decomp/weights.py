"""Where the bundled models lie; `weights/<name>/{config.json, model.safetensors, README.md}`."""

from pathlib import Path

PACKAGE = Path(__file__).parent
# an installed wheel carries the weights inside the package, a checkout beside it
WEIGHTS = PACKAGE / "bundled" if (PACKAGE / "bundled").is_dir() else PACKAGE.parent / "weights"


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in WEIGHTS.glob("*/model.safetensors"))
