"""Make a model folder from a training run: `python apps/release.py RUN --data ROOT --out weights/NAME`.

Trains the classifier behind `domain="auto"`, measures and names the channels' roles, and writes `config.json`,
`model.safetensors` (half precision) and `figures.json`. The card, README.md, is written by a person from these.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from decomp import roles
from decomp.decomposer import Decomposer, load
from decomp.domain import fit
from decomp.generator import BranchedGenerator
from decomp.training import Photos

from measure import figures, regenerate, squares, validation


def main(
    run: Annotated[Path, typer.Argument(help="run folder of apps/train.py", exists=True)],
    data: Annotated[Path, typer.Option(help="folder laid out as {train,val}/{domain}/*", exists=True)],
    out: Annotated[Path, typer.Option(help="model folder to write")],
    epochs: Annotated[int, typer.Option(help="epochs of the classifier; 0 keeps the one in OUT")] = 20,
):
    torch.manual_seed(0)
    generator = BranchedGenerator.from_pretrained(run)
    model = Decomposer(generator.config)
    model.generator = generator.eval()
    if epochs:
        photos = Photos(data, "train", model.config.domains, model.classifier.SIDE)
        fit(model.classifier, photos.by_domain, epochs)
    else:
        model.classifier = load(out).classifier

    x, y = squares(model, validation(model, data, per_domain=64))
    domains = model.config.domains
    face = dict(zip(domains, model.config.face))
    measured = roles.measure(regenerate(model, x, y).channels, [domains[k] for k in y], face)
    config = replace(model.config, roles=tuple(roles.name(measured, model.config.size)))
    named = Decomposer(config)
    named.load_state_dict(model.state_dict())
    card = (out / "README.md").read_text() if (out / "README.md").exists() else None
    named.half().save_pretrained(out)
    if card:  # save_pretrained writes a stub over it
        (out / "README.md").write_text(card)
    measured_on = {"sha256": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()}
    (out / "figures.json").write_text(json.dumps(measured_on | figures(load(out), data), indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
