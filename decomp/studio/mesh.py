"""A relief as files: height map, normal map, and a glTF model with the photo as its texture."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..decomposition import Decomposition, Picture, to_bytes
from ..export import animation, tiles
from ..faces import Box
from ..photos import Photo, to_eight_bits
from .relief import Relief, shaded, towards

MOST_POINTS = 256  # of the mesh, along a side
MOST_TEXELS = 1024  # of its texture, along a side


def height_map(relief: Relief) -> Image.Image:
    """16-bit grey: 0 is the lowest point, 65535 the highest."""
    return Image.fromarray(np.rint(relief.height / max(relief.height.max(), 1e-6) * 65535).astype(np.uint16))


def normal_map(relief: Relief) -> Image.Image:
    """RGB, 128 is 0: x to the right, y up, z to the viewer, as in glTF and OpenGL."""
    return Image.fromarray(to_bytes(relief.normals() * np.float32([1, -1, 1])))


def glb(relief: Relief, photo: Photo, box: Box) -> bytes:
    """Binary glTF: the square as a surface 1 wide, y up, facing +z, its texture the photo at up to 1024 pixels.

    Raises:
        ModuleNotFoundError: trimesh is not installed; `pip install 'decomp[relief]'`.
    """
    import trimesh

    size = len(relief.height)
    points = min(size, MOST_POINTS)
    height = cv2.resize(relief.height, (points, points), interpolation=cv2.INTER_AREA)
    v, u = np.meshgrid(*2 * [(np.arange(points) + 0.5) / points], indexing="ij")  # pixels' middles in the square
    corner = np.arange(points**2).reshape(points, points)
    a, b, c, d = (part.ravel() for part in (corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]))
    mesh = trimesh.Trimesh(
        vertices=np.stack([u - 0.5, 0.5 - v, height / size], axis=-1).reshape(-1, 3),
        faces=np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]),  # counter-clockwise from +z
        visual=trimesh.visual.TextureVisuals(
            uv=np.stack([u, 1 - v], axis=-1).reshape(-1, 2),
            material=trimesh.visual.material.PBRMaterial(
                baseColorTexture=texture(photo, box), metallicFactor=0.0, roughnessFactor=1.0
            ),
        ),
        process=False,
    )
    return mesh.export(file_type="glb", include_normals=True)


def texture(photo: Photo, box: Box) -> Image.Image:
    """The square of the photo, at its own resolution up to MOST_TEXELS."""
    pixels = to_eight_bits(photo.pixels[box.top : box.top + box.side, box.left : box.left + box.side])
    picture = Image.fromarray(pixels)
    return picture if box.side <= MOST_TEXELS else picture.resize(2 * [MOST_TEXELS], Image.Resampling.LANCZOS)


def turning(relief: Relief, picture: Picture, degrees: float = 18.0, steps: int = 24) -> np.ndarray:
    """The picture as the relief turns left and right about its vertical axis, (steps, H, W, 3).

    Seen from the side at angle a, a point at height h is shifted by h tan a; hidden parts are not filled in.
    """
    size = len(picture)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    height = relief.height * (size / len(relief.height))
    if height.shape != x.shape:
        height = cv2.resize(height, (size, size), interpolation=cv2.INTER_CUBIC)
    angles = np.radians(degrees) * np.sin(2 * np.pi * np.arange(steps) / steps)
    frames = [
        cv2.remap(picture, x + np.float32(np.tan(a)) * height, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for a in angles
    ]
    return np.stack(frames)


def sheet(relief: Relief, d: Decomposition) -> Image.Image:
    """The photo, its height, the bare surface lit from three sides, and the photo relit from four."""
    grey = lambda plane: np.repeat((2 * plane - 1)[..., None], 3, axis=2).astype(np.float32)
    n, sides = relief.normals(), {"left": -75, "above": 0, "right": 75}
    surface = [(f"surface, lit from {where}", grey(shaded(n, towards(a, 40)))) for where, a in sides.items()]
    relit = [
        (f"photo, lit from {where}", relief.relight(d.picture, a)) for where, a in (sides | {"below": 180}).items()
    ]
    height = ("height", grey(relief.height / max(relief.height.max(), 1e-6)))
    return tiles([[("photo", d.picture), height, *surface], [("normals", n * np.float32([1, -1, 1])), *relit]])


def write_folder(relief: Relief, d: Decomposition, folder: Path) -> None:
    """height.png, normals.png, relief.glb, turning.webp, sheet.png and relief.json (light and scale) into a folder.

    Raises:
        ModuleNotFoundError: trimesh is not installed.
    """
    height_map(relief).save(folder / "height.png")
    normal_map(relief).save(folder / "normals.png")
    (folder / "relief.glb").write_bytes(glb(relief, d.photo, d.box))
    animation(turning(relief, d.picture), folder / "turning.webp", 60)
    sheet(relief, d).save(folder / "sheet.png")
    facts = {
        "light": {"x right": relief.light[0], "y down": relief.light[1], "z to the viewer": relief.light[2]},
        "height of white in pixels of the square": float(relief.height.max()),
        "square": {"pixels": len(relief.height), "box in the photo": [d.box.left, d.box.top, d.box.side]},
    }
    (folder / "relief.json").write_text(json.dumps(facts, indent=2) + "\n")
