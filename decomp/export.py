"""Last step of the walk on the command line: a decomposition as pictures and as exact numbers."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageDraw, ImageFont

from .decomposition import Decomposition, Picture, to_bytes
from .photos import PhotoError

TILE, CAPTION, GAP = 176, 30, 6  # pixels
LARGEST_NPZ, MOST_MEMBERS = 2**30, 32  # bytes, unpacked; arrays


def contact_sheet(d: Decomposition) -> Image.Image:
    """Photo, re-generated, R and E on top; every channel raised, and added to the re-generated picture, below."""
    top = [
        ("photo", d.picture),
        (f"re-generated as {', '.join(name or 'itself' for name in dict.fromkeys(d.asked_for))}", d.regenerated),
        ("residual R", d.residual),
        ("unexplained E, raised", d.raised("unexplained")),
    ]
    raised = [(f"{c.index} {c.name}", d.raised(c.index)) for c in d.info]
    added = [(f"added, energy {c.energy:.3f}" + ("" if c.active else ", silent"), d.added(c.index)) for c in d.info]
    return tiles([top, raised, added])


def tiles(rows: list[list[tuple[str, Picture]]]) -> Image.Image:
    """Captioned pictures in rows."""
    cell_w, cell_h = TILE + GAP, TILE + CAPTION + GAP
    sheet = Image.new("RGB", (cell_w * max(map(len, rows)) + GAP, cell_h * len(rows) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, row in enumerate(rows):
        for j, (caption, picture) in enumerate(row):
            left, top = GAP + j * cell_w, GAP + i * cell_h
            tile = Image.fromarray(to_bytes(picture)).resize((TILE, TILE), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left, top))
            draw.multiline_text((left, top + TILE), _wrap(caption, font), "black", font, spacing=1)
    return sheet


def _wrap(caption: str, font) -> str:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > TILE and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines[:2])


def strip(pictures: np.ndarray, values: list[float]) -> Image.Image:
    """A sweep side by side, each picture captioned with its strength."""
    return tiles([[(f"strength {value:g}", picture) for picture, value in zip(pictures, values)]])


def animation(pictures: np.ndarray, path: Path, milliseconds: int = 120) -> None:
    """A sweep there and back again as an endless WebP (lossless) or GIF, by the suffix of `path`."""
    frames = [Image.fromarray(to_bytes(p)) for p in pictures]
    frames += frames[-2:0:-1]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, lossless=True)


def layers(d: Decomposition) -> dict[str, Picture]:
    """Every layer of x = R + sum_k v_k + E by file name, in the order of the sum."""
    safe = lambda name: re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")  # names come from the weights' config
    named = {f"channel-{c.index}-{safe(c.name)}": v for c, v in zip(d.info, d.channels)}
    return {"residual": d.residual} | named | {"unexplained": d.unexplained}


def write_npz(d: Decomposition, path: Path) -> None:
    """All layers, exactly, as compressed float32 arrays; read back with `read_npz`."""
    arrays = {"picture": d.picture, "residual": d.residual, "channels": d.channels, "unexplained": d.unexplained}
    if d.phi is not None:
        arrays["phi"] = d.phi
    np.savez_compressed(path, **arrays, names=d.names, domain=d.domain, targets=d.targets)


def read_npz(path: Path) -> Decomposition:
    """The decomposition in `layers.npz`, without its full-resolution photo; nothing is unpickled.

    Raises:
        PhotoError: it is not such a file, or its arrays do not fit together.
        PhotoError: it would unpack to more than 1 GiB.
    """
    wrong = f"{Path(path).name}: not a decomposition; accepted: layers.npz as decomp writes it"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                raise PhotoError(f"{Path(path).name}: holds {len(members)} arrays; {wrong.partition('; ')[2]}")
            if sum(member.file_size for member in members) > LARGEST_NPZ:
                raise PhotoError(f"{Path(path).name}: unpacks to more than 1 GiB; {wrong.partition('; ')[2]}")
        with np.load(path, allow_pickle=False) as file:
            a = {name: file[name] for name in file.files}
        channels, names, targets = a["channels"], a["names"].tolist(), a["targets"].tolist()
        pictures = {"picture": a["picture"], "residual": a["residual"]} | {f"v_{k}": v for k, v in enumerate(channels)}
        pictures |= {f"phi_{k}": phi for k, phi in enumerate(a.get("phi", []))}
    except PhotoError:
        raise
    except Exception as error:  # a damaged archive makes numpy and zipfile raise nearly anything
        raise PhotoError(wrong) from error
    shape = a["picture"].shape
    fits = len(shape) == 3 and shape[2] == 3 and len(names) == len(targets) == len(channels) > 0
    fits = fits and all(p.shape == shape and p.dtype == np.float32 and np.isfinite(p).all() for p in pictures.values())
    if not fits:
        raise PhotoError(wrong)
    return Decomposition(
        picture=a["picture"],
        residual=a["residual"],
        channels=channels,
        names=tuple(map(str, names)),
        domain=str(a.get("domain", "")),
        targets=tuple(map(str, targets)),
        phi=a.get("phi"),
    )


def write_tiff(d: Decomposition, path: Path) -> None:
    """All layers, exactly, as pages of one float32 TIFF: the photo, R, v_1 .. v_M, E; each page names its layer."""
    with tifffile.TiffWriter(path) as file:
        for name, picture in {"photo": d.picture, **layers(d)}.items():
            file.write(picture, photometric="rgb", compression="deflate", description=name, metadata=None)


def describe(d: Decomposition) -> dict:
    """What `decomposition.json` holds."""
    return {
        "domain": d.stated,
        "targets": d.asked_for,
        "box": vars(d.box) if d.box else None,
        "channels": [c._asdict() for c in d.info],
        "covariance": d.covariance().tolist(),
    }


def write_folder(d: Decomposition, folder: Path) -> None:
    """Everything about one photo: contact sheet, each layer raw, raised and added as PNG, npz, TIFF, JSON.

    "raw" is the layer at its own contrast around mid-grey, (v + 1) / 2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contact_sheet(d).save(folder / "sheet.png")
    png = lambda picture, name: Image.fromarray(to_bytes(picture)).save(folder / f"{name}.png")
    png(d.picture, "photo")
    png(d.regenerated, "regenerated")
    png(d.residual, "residual")
    png(d.unexplained, "unexplained.raw")
    png(d.raised("unexplained"), "unexplained.raised")
    for c, name in zip(d.info, list(layers(d))[1:-1]):
        png(d.channels[c.index - 1], f"{name}.raw")
        png(d.raised(c.index), f"{name}.raised")
        png(d.added(c.index), f"{name}.added")
    write_npz(d, folder / "layers.npz")
    write_tiff(d, folder / "layers.tif")
    (folder / "decomposition.json").write_text(json.dumps(describe(d), indent=2))
