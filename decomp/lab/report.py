"""One page with the results of all experiments in a folder: each claim of the paper, held or not, and the figures."""

import base64
import json
from pathlib import Path

from ..files import atomic
from ..templates import TEMPLATES
from .findings import FILE, read

PAGE = "report.html"


def write_page(folder: Path) -> Path:
    """Write FOLDER/report.html from every experiment below it; nothing on the page is fetched from elsewhere.

    Raises:
        ValueError: there is no experiment, or one that can't be read.
    """
    folders = sorted(path.parent for path in folder.glob(f"*/{FILE}"))
    if not folders:
        raise ValueError(f"{folder} holds no experiment; accepted: a folder that `decomp lab` wrote into")
    experiments = []
    for experiment in folders:
        try:
            findings = read(experiment)
            pictures = [(name, caption, _data_url(experiment / name)) for name, caption in findings.figures.items()]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{experiment} can't be read: {error}") from error
        numbers = json.dumps(findings.numbers, indent=1)
        experiments.append({"name": experiment.name, "findings": findings, "pictures": pictures, "numbers": numbers})
    page = TEMPLATES.get_template("lab.html").render(experiments=experiments)
    with atomic(folder / PAGE) as temporary:
        temporary.write_text(page)
    return folder / PAGE


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
