"""Render every picture of the README and of the gallery's page: `python apps/gallery/make.py`.

All are made from the bundled models and the free photos of `photos.toml`, offline. Run it after each new model.
`--only NAME` renders one picture, `--out FOLDER` writes the pictures and the page somewhere else.
"""

import argparse
import tempfile
import time
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import decomp
from decomp import presets
from decomp.decomposition import Decomposition, Picture, to_bytes

HERE = Path(__file__).parent
PHOTOS = tomllib.loads((HERE / "photos.toml").read_text())
CIFAR = tomllib.loads((HERE / "cifar.toml").read_text())
SIDE = {"animals": 256, "asked": 256, "faces": 128}  # pixels of a decomposed square
ANIMALS, PEOPLE = ("cat", "kitten", "dog", "jaguar"), ("hopper", "collins")
TILE, GAP, LINE = 160, 8, 18  # pixels: a tile's side, between tiles, a caption's height
TOY_RUNS, TOY_UNITS = 200, (2, 3, 4, 5, 6, 8, 10, 15, 20, 30)


@cache
def decomposed(name: str, by: str | None = None) -> Decomposition:
    """A photo of `photos.toml`, decomposed as its own class by its model or another."""
    photo = PHOTOS[name]
    box = tuple(photo["box"]) if "box" in photo else None
    by = by or photo["model"]
    return decomp.load(by).decompose(HERE / photo["file"], photo["domain"], box=box, size=SIDE[by])


def tile(picture: Picture | Image.Image, side: int) -> Image.Image:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(to_bytes(picture))
    return image.resize((side, side), Image.Resampling.LANCZOS)


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, size: int) -> None:
    """Text in as many lines as its width asks for."""
    font, lines = ImageFont.load_default(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width else [*lines, word]
    draw.multiline_text(at, "\n".join(lines), "black", font, spacing=1)


def grid(rows: list[list[tuple[str, Picture | Image.Image]]], side: int = TILE, lines: int = 1) -> Image.Image:
    """Captioned pictures in rows, with room for so many lines of caption."""
    head = lines * LINE
    width, height = side + GAP, side + head + GAP
    sheet = Image.new("RGB", (max(map(len, rows)) * width + GAP, len(rows) * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        for j, (caption, picture) in enumerate(row):
            left, top = GAP + j * width, GAP + i * height
            write(draw, (left, top), caption, side, 13)
            sheet.paste(tile(picture, side), (left, top + head))
    return sheet


def offered(name: str, by: str | None = None) -> dict[str, dict]:
    """The presets of a photo's model or another."""
    return presets.strengths(decomp.load(by or PHOTOS[name]["model"]))


def preset_of(name: str, *wanted: str) -> str:
    """The first of the wanted presets that the photo's model offers, else its first one."""
    return next((preset for preset in wanted if preset in offered(name)), next(iter(offered(name))))


# --------------------------------------------------------------------------------------------------------- the README


def sum_of_layers() -> Image.Image:
    d = decomposed("kitten")
    preset = preset_of("kitten", "Stronger whiskers", "Cartoon", "Deeper contours")
    edge, sign, head = 270, 40, 30
    small = (edge - 2 * 6) // 3
    block = Image.new("RGB", (edge, edge), "white")
    for c in d.info[:9]:
        row, column = divmod(c.index - 1, 3)
        block.paste(tile(d.raised(c.index), small), (column * (small + 6), row * (small + 6)))
    parts = [
        ("photo", tile(d.picture, edge)),
        "=",
        ("residual R", tile(d.residual, edge)),
        "+",
        (f"{len(d.channels)} channels, contrast raised", block),
        "+",
        ("unexplained E, raised", tile(d.raised("unexplained"), edge)),
        "→",
        (f"one edit: {preset}", tile(d.recompose(offered("kitten")[preset]), edge)),
    ]
    width = sum(sign if isinstance(part, str) else edge for part in parts) + 2 * GAP
    sheet = Image.new("RGB", (width, edge + head + GAP), "white")
    draw, left = ImageDraw.Draw(sheet), GAP
    for part in parts:
        if isinstance(part, str):
            middle = (left + sign / 2, head + edge / 2)
            if part == "→":
                draw.line([(left + 6, middle[1]), (left + sign - 6, middle[1])], "black", 3)
                tip = (left + sign - 6, middle[1])
                draw.line([(tip[0] - 10, tip[1] - 9), tip, (tip[0] - 10, tip[1] + 9)], "black", 3)
            else:
                draw.text(middle, part, "black", ImageFont.load_default(36), anchor="mm")
            left += sign
        else:
            write(draw, (left, 2), part[0], edge, 20)
            sheet.paste(part[1], (left, head))
            left += edge
    return sheet


def before_after() -> Image.Image:
    wanted = {
        "kitten": ("Stronger whiskers", "Clearer eyes"),
        "dog": ("Cartoon", "Deeper contours"),
        "hopper": ("Relight", "Deeper contours"),
    }
    row = []
    for name, names in wanted.items():
        d, preset = decomposed(name), preset_of(name, *names)
        pasted = d.paste(d.recompose(offered(name)[preset]))
        row += [("photo", square(d.photo.eight_bits, d)), (preset, square(pasted.eight_bits, d))]
    return grid([row], 240)


def square(pixels: np.ndarray, d: Decomposition) -> Image.Image:
    """The largest square of a whole photo around the face."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left = int(np.clip(d.box.left + d.box.side / 2 - side / 2, 0, width - side))
    top = int(np.clip(d.box.top + d.box.side / 2 - side / 2, 0, height - side))
    return Image.fromarray(pixels[top : top + side, left : left + side])


# ---------------------------------------------------------------------------------------------- the paper's figures


def regenerated() -> Image.Image:
    rows = []
    for name in ANIMALS + PEOPLE:
        d = decomposed(name)
        shown = [d.picture, d.residual, d.regenerated, d.raised("unexplained")]
        rows.append(
            list(zip((f"photo ({d.domain})", "residual R", "re-generated f(x)", "unexplained E, raised"), shown))
        )
    return grid([[cell for row in rows[i : i + 2] for cell in row] for i in range(0, len(rows), 2)])


def classes() -> Image.Image:
    """Every animal turned into each class, at the size the model was trained at; E stays that of the photo."""
    rows = []
    for name in ANIMALS:
        whole, model = decomposed(name), decomp.load("animals")
        d = model.decompose(whole.photo, PHOTOS[name]["domain"], box=whole.box)
        row = [("photo", d.picture)]
        for target in model.config.domains:
            if target == d.domain:
                row.append((f"re-generated as {target}", d.regenerated))
            else:
                row.append((f"turned into {target}", model.transfer(d, target).regenerated + d.unexplained))
        rows.append(row)
    return grid([[cell for row in rows[i : i + 2] for cell in row] for i in range(0, len(rows), 2)])


def each_channel(
    show: Callable[[Decomposition, int], Picture], names: tuple[str, ...], by: str | None = None
) -> Image.Image:
    rows = []
    for name in names:
        d = decomposed(name, by)
        cells = [("photo", d.picture)] + [(f"{c.index} {c.name}", show(d, c.index)) for c in d.info]
        rows += [cells[:5], cells[5:]]
    return grid(rows, lines=2)


def raised() -> Image.Image:
    return each_channel(Decomposition.raised, ("cat", "dog", "hopper"))


def added() -> Image.Image:
    return each_channel(Decomposition.added, ("cat", "dog", "hopper"))


def asked() -> Image.Image:
    shown = each_channel(Decomposition.raised, ("kitten", "dog"), "asked")
    edited = each_channel(lambda d, k: d.recompose({k: 3.0}), ("kitten", "dog"), "asked")
    both = Image.new("RGB", (shown.width, shown.height + edited.height), "white")
    both.paste(shown)
    both.paste(edited, (0, shown.height))
    return both


def sweep() -> Image.Image:
    strengths = (-1, 0, 1, 2, 3, 4)
    rows = []
    for name in ("cat", "kitten", "dog"):
        d = decomposed(name)
        for c in sorted(d.info, key=lambda c: -c.energy)[:2]:
            swept = d.sweep(c.index, strengths)
            rows.append([(f"channel {c.index} x {s}", picture) for s, picture in zip(strengths, swept)])
    return grid(rows)


def textures() -> Image.Image:
    rows = []
    for name in ("cat", "kitten", "dog", "jaguar"):
        d = decomposed(name)
        pairs = presets.textures(decomp.load("animals"))
        title = next((title for title in ("Fine | soft", "Colour | grey") if title in pairs), next(iter(pairs)))
        s = d.separate(*pairs[title])
        first, second = title.split(" | ")
        rows.append([("photo", d.picture), (first, 2 * s.a), (second.capitalize(), 2 * s.b), ("rest", s.rest)])
    return grid([rows[0] + rows[1], rows[2] + rows[3]])


def eyes() -> Image.Image:
    from decomp.eyes.finder import find_eyes
    from decomp.eyes.job import overlay

    model = decomp.load("animals")
    rows = []
    for name in ("cat", "kitten"):
        d = decomposed(name)
        s = find_eyes(model, d.photo)
        if s.box:  # where the search looked last
            d = model.decompose(d.photo, domain="cat", box=(s.box.left, s.box.top, s.box.side))
        row = [("photo", d.picture)]
        for caption, plane in (("initial surface", s.surface), ("segmented image", s.image)) if s.found else ():
            if plane is not None:
                low, high = np.nanmin(plane), np.nanmax(plane)
                grey = np.nan_to_num(2 * (plane - low) / (high - low) - 1, nan=1.0).astype(np.float32)
                row.append((caption, np.repeat(grey[:, :, None], 3, 2)))
        if s.found:
            row.append(("both eyes", square(np.asarray(overlay(d.photo, [s])), d)))
        else:
            row.append((f"not reported: {s.reason}", d.picture))
        rows.append(row)
    return grid(rows, 220, lines=2)


def preset_rows(names: tuple[str, ...], by: str | None = None) -> Image.Image:
    """One row for each preset of a model: photo and edit of each of these photos."""
    rows = []
    for preset, strengths in offered(names[0], by).items():
        row = []
        for name in names:
            d = decomposed(name, by)
            row += [("photo", d.picture), (preset, d.recompose(strengths))]
        rows.append(row)
    return grid(rows, 128)


def presets_animals() -> Image.Image:
    return preset_rows(ANIMALS)


def presets_asked() -> Image.Image:
    return preset_rows(ANIMALS, "asked")


def presets_faces() -> Image.Image:
    return preset_rows(PEOPLE)


# ---------------------------------------------------------------------------------------- why branches specialise


def drawn(figure) -> Image.Image:
    """A matplotlib figure as a picture."""
    with tempfile.TemporaryDirectory() as folder:
        figure.savefig(Path(folder) / "figure.png", dpi=80)
        with Image.open(Path(folder) / "figure.png") as picture:
            return picture.convert("RGB")


def toy() -> Image.Image:
    from decomp.lab.specialization import toy as lab
    from decomp.lab.specialization.toy_figures import success

    measured = {}
    for target in lab.TOYS:
        starts = [lab.starts("uniform", m, TOY_RUNS, seed=0) for m in TOY_UNITS]
        trained = lab.train(target, starts)
        measured[target.name] = {m: {"success": float(t.success.float().mean())} for m, t in zip(TOY_UNITS, trained)}
    return drawn(success(measured, TOY_RUNS))


def cifar() -> Image.Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    branches, active = CIFAR["branches"], CIFAR["active"]
    left.plot(branches, branches, ":", color="grey", label="all branches")
    left.plot(branches, active, "o-", label="active after training")
    left.set(xscale="log", yscale="log", xlabel="branches", ylabel="active branches")
    for axis in (left.xaxis, left.yaxis):
        axis.set_ticks(branches, map(str, branches))
        axis.minorticks_off()
    left.legend()
    names, accuracy = zip(*CIFAR["accuracy"].items())
    bars = right.barh(names, accuracy, color="tab:blue")
    right.bar_label(bars, [f"{a:.1f} %" for a in accuracy], padding=-46, color="white")
    right.set(xlabel="test accuracy, %", xlim=(0, 80))
    right.invert_yaxis()
    return drawn(figure)


def hessian() -> Image.Image:
    from decomp.lab.specialization import channels

    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "out"
        for name in ("cat", "dog", "jaguar"):
            d = decomposed(name)
            for split in ("train", "val"):
                (data / split / d.domain).mkdir(parents=True, exist_ok=True)
                tile(d.picture, 128).save(data / split / d.domain / f"{name}.png")
        channels.run("animals", data, out, 1)
        with Image.open(out / "hessian.png") as picture:
            return picture.convert("RGB")


# ------------------------------------------------------------------------------------------------------------ the page

PAGE = {  # picture: what it shows
    sum_of_layers: "A photo is R + the channels + E, exactly. Changing the strengths of some channels edits it.",
    before_after: "Presets, pasted back into the whole photo. Outside the face no bit changes.",
    regenerated: "Re-generated photos: R, f(x) = R + sum of the channels, and E = x - f(x), what f leaves out.",
    classes: "The same photos turned into each class of the model: nose, eyes and fur are painted anew, R stays. "
    "The class is an input of every branch.",
    raised: "Each channel alone with its contrast raised; mid-grey is zero (the paper's figure 10).",
    added: "Each channel added once more to the re-generated picture, not amplified (figure 11).",
    asked: 'The model "asked": each channel was told in training what it may carry. Each with its contrast raised, '
    "then the photo with that channel at strength 3.",
    sweep: "Magnitude sweep: the two strongest channels of three photos at strengths -1 to 4 (figures 13, 14).",
    textures: "Texture separation: two groups of channels, shown twice as strong, and the rest (figure 15).",
    eyes: "A cat's eyes by Chan-Vese on the channels: initial surface, segmented image, outlines.",
    presets_animals: 'One row for each preset of "animals", on two cats, a dog and a jaguar.',
    presets_asked: 'One row for each preset of "asked", on the same photos.',
    presets_faces: 'One row for each preset of "faces", on two people.',
    toy: "Toy of section 4: gradient descent on a sum of M units fits four points more often as M grows. "
    f"{TOY_RUNS} runs for each M, bars are 95 % intervals; `decomp lab toy` takes 1000.",
    cifar: "CIFAR-10, sums of M slim ResNet-18: with many branches some fall silent (left); accuracy after five epochs "
    "(right). Numbers of one run of `decomp lab classify --config cifar-cpu`, kept in `cifar.toml`.",
    hessian: 'Norm of each block of the Hessian, a block for each pair of channels of "animals", on three photos '
    "(`decomp lab channels`).",
}
DRAWN = (toy, cifar, hessian)  # lines and text: PNG; photos are JPEG


def file_of(picture: Callable) -> str:
    return picture.__name__.replace("_", "-") + (".png" if picture in DRAWN else ".jpg")


def page() -> str:
    """The gallery's README.md."""
    lines = [
        "# Gallery",
        "",
        "Made by `python apps/gallery/make.py` from the bundled models and the photos at the end.",
        "",
    ]
    for picture, words in PAGE.items():
        lines += [words, "", f"![{picture.__name__.replace('_', ' ')}](pictures/{file_of(picture)})", ""]
    lines += ["## Photos", "", "| photo | author | licence | from |", "| --- | --- | --- | --- |"]
    for photo in PHOTOS.values():
        shown = f"[{photo['title']}]({photo['file']})"
        lines.append(f"| {shown} | {photo['author']} | {photo['licence']} | {photo['source']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    names = {picture.__name__: picture for picture in PAGE}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=names, help="render this picture alone")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for README.md and pictures/")
    arguments = parser.parse_args()
    folder = arguments.out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in names.items():
        if arguments.only in (None, name):
            began = time.monotonic()
            path = folder / file_of(picture)
            picture().save(path, quality=85, optimize=True)
            print(f"{path.name}: {path.stat().st_size // 1024} KiB, {time.monotonic() - began:.1f} s")
    (arguments.out / "README.md").write_text(page())


if __name__ == "__main__":
    main()
