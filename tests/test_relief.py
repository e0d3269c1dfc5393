import dataclasses
import io

import numpy as np
import pytest
import skimage

from decomp.decomposition import Decomposition
from decomp.faces import Box
from decomp.photos import Photo
from decomp.studio import mesh
from decomp.studio.landmarks import face_frame
from decomp.studio.relief import dome, integrate, normals, relief, shaded, towards

EYES = np.array([[48.0, 52.0], [80.0, 52.0]])


def lit(detail: np.ndarray, light, albedo: np.ndarray | float = 1.0) -> Decomposition:
    """A made-up matt face, 128 pixels: the prior's dome with `detail`, its shading beyond the dome's in channel 1."""
    frame = face_frame(EYES, 128)
    light = np.array(light) / np.linalg.norm(light)
    smooth, whole = (np.maximum(normals(h) @ light, 0.05) for h in (dome(frame), dome(frame) + detail))
    grey = lambda brightness: np.repeat(np.float32(albedo * brightness)[..., None], 3, axis=2)
    residual, channel = 2 * grey(smooth) - 1, 2 * grey(whole - smooth)
    pixels = np.uint8(np.clip(np.rint((residual + channel + 1) * 127.5), 0, 255))
    return Decomposition(
        picture=residual + channel,
        residual=residual,
        channels=np.stack([channel, np.zeros_like(channel)]),
        names=("light", "other"),
        domain="female",
        targets=("female", "female"),
        photo=Photo(pixels),
        box=Box(0, 0, 128, "given"),
    )


@pytest.fixture
def features():
    """Nose and brows of the made-up face, in pixels of height."""
    frame = face_frame(EYES, 128)
    bump = lambda u, v, su, sv: np.exp(-(((frame.u - u) / su) ** 2) - ((frame.v - v) / sv) ** 2)
    return 5 * bump(0, 0.5, 0.15, 0.3) + 2 * bump(-0.5, -0.25, 0.3, 0.1) + 2 * bump(0.5, -0.25, 0.3, 0.1)


def detail_of(r):
    return r.height - dome(face_frame(EYES, 128))


def similarity(r, features) -> float:
    inside = r.mask > 0.9
    return float(np.corrcoef(detail_of(r)[inside], features[inside])[0, 1])


def test_a_made_up_face_comes_back(features):
    r = relief(lit(features, (-0.4, -0.6, 0.7)), EYES, [1])
    assert similarity(r, features) > 0.7
    assert r.light[0] < -0.2 and r.light[1] < -0.5  # from the left, as it was, and from above


def test_the_side_of_the_light_is_measured(features):
    left, right = (relief(lit(features, (x, -0.6, 0.7)), EYES, [1]) for x in (-0.4, 0.4))
    assert left.light[0] == pytest.approx(-right.light[0], abs=0.02)
    assert similarity(right, features) > 0.7


def test_a_symmetric_colour_does_not_change_the_side_of_the_light(features):
    frame = face_frame(EYES, 128)
    spots = 1 - 0.5 * np.exp(-((np.abs(frame.u) - 0.5) ** 2 + (frame.v - 0.8) ** 2) / 0.05)
    plain, spotted = (relief(lit(features, (-0.4, -0.6, 0.7), albedo), EYES, [1]) for albedo in (1.0, spots))
    assert spotted.light[0] == pytest.approx(plain.light[0], abs=0.03)
    assert np.corrcoef(detail_of(plain).ravel(), detail_of(spotted).ravel())[0, 1] > 0.97


def test_no_light_no_relief(features):
    d = lit(features, (-0.4, -0.6, 0.7))
    with pytest.raises(ValueError, match="no channel carries light"):
        relief(d, EYES, [])
    assert np.abs(detail_of(relief(d, EYES, ["other"])) - detail_of(relief(d, EYES, ["other"])).mean()).max() < 1e-3


def test_depth_scales_the_height(features):
    d = lit(features, (-0.4, -0.6, 0.7))
    np.testing.assert_allclose(relief(d, EYES, [1], 2).height, 2 * relief(d, EYES, [1]).height, rtol=1e-4, atol=1e-4)
    for depth in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0"):
            relief(d, EYES, [1], depth)


def test_integration_is_exact_for_slopes_of_a_surface():
    y, x = np.mgrid[:40, :60] / 10
    surface = np.sin(x) + np.cos(2 * y) * x
    slopes = [np.zeros_like(surface), np.zeros_like(surface)]
    for axis, slope in ((1, slopes[0]), (0, slopes[1])):  # so that neighbouring means are the differences
        steps = np.diff(surface, axis=axis)
        lead = np.take(steps, [0], axis=axis)
        values = [lead]
        for i in range(steps.shape[axis]):
            values.append(2 * np.take(steps, [i], axis=axis) - values[-1])
        slope[:] = np.concatenate(values, axis=axis)
    height = integrate(*slopes)
    np.testing.assert_allclose(height, surface - surface.mean(), atol=1e-8)


def test_relighting(features):
    d = lit(features, (-0.4, -0.6, 0.7))
    r = relief(d, EYES, [1])
    assert np.allclose(r.relight(d.picture, 90, strength=0), np.clip(d.picture, -1, 1), atol=1e-6)
    right, left = (r.relight(d.picture, azimuth, 30) for azimuth in (90, -90))
    half = slice(40, 90), slice(68, 96)
    assert right[half].mean() > d.picture[half].mean() + 0.02 > left[half].mean() + 0.04
    outside = r.mask == 0
    assert np.allclose(right[outside], np.clip(d.picture, -1, 1)[outside], atol=1e-6)
    with pytest.raises(ValueError, match="finite"):
        r.relight(d.picture, float("nan"))


def test_directions():
    assert np.allclose(towards(0, 0), (0, -1, 0)) and np.allclose(towards(90, 0), (1, 0, 0))
    assert np.allclose(towards(37, 90), (0, 0, 1))
    flat = normals(np.zeros((4, 4)))
    assert shaded(flat, towards(0, 90)).min() == pytest.approx(1)


def test_maps(features):
    r = relief(lit(features, (-0.4, -0.6, 0.7)), EYES, [1])
    height = np.asarray(mesh.height_map(r))
    assert height.dtype == np.uint16 and height.min() == 0 and height.max() == 65535
    n = np.asarray(mesh.normal_map(r)).astype(int)
    assert n[60, 98, 0] > 150 and n[60, 30, 0] < 105  # the dome's right side faces right
    assert n[20, 64, 1] > 150  # its upper side faces up
    flat = dataclasses.replace(r, height=np.zeros((16, 16), np.float32))
    assert np.asarray(mesh.height_map(flat)).max() == 0


def test_model_opens_again(faces):
    trimesh = pytest.importorskip("trimesh")
    d = faces.decompose(skimage.data.astronaut())
    r = relief(d, np.array([[203, 101], [248, 104]]), [9])
    scene = trimesh.load(io.BytesIO(mesh.glb(r, d.photo, d.box)), file_type="glb")
    (surface,) = scene.geometry.values()
    n = faces.config.size
    assert surface.vertices.shape == (n * n, 3) and surface.face_normals[:, 2].min() > 0
    width, height, depth = surface.extents
    assert width == pytest.approx(1 - 1 / n) and height == pytest.approx(1 - 1 / n) and 0.1 < depth < 0.6
    picture = surface.visual.material.baseColorTexture
    assert picture.size == (d.box.side, d.box.side)
    nose = surface.vertices[np.argmax(surface.vertices[:, 2])]
    u, v = surface.visual.uv[np.argmax(surface.vertices[:, 2])]
    assert (u - 0.5, v - 0.5) == (pytest.approx(nose[0], abs=1e-4), pytest.approx(nose[1], abs=1e-4))


def test_turning_moves_what_is_high(features):
    r = relief(lit(features, (-0.4, -0.6, 0.7)), EYES, [1])
    marks = np.zeros((128, 128, 3), np.float32)
    marks[60:64, 62:66] = marks[60:64, 2:6] = 1  # on the nose, and beside the face
    frames = mesh.turning(r, marks, degrees=18, steps=4)
    place = lambda frame, left, right: (
        (frame[60:64, left:right, 0] * np.arange(left, right)).sum() / frame[60:64, left:right, 0].sum()
    )
    assert np.allclose(frames[0], marks, atol=1e-4)
    nose = [place(frame, 30, 100) for frame in frames]
    assert nose[1] < nose[0] - 5 and nose[3] > nose[0] + 5  # turned to one side and to the other
    assert abs(place(frames[1], 0, 20) - place(frames[3], 0, 20)) < 1
