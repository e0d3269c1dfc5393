import numpy as np
import pytest
import skimage

from decomp.faces import Box
from decomp.photos import Photo
from decomp.studio.landmarks import face_frame, face_mask, find_landmarks, in_square


def test_a_persons_eyes(faces):
    landmarks = find_landmarks(faces, faces.decompose(skimage.data.astronaut()))
    assert landmarks.found == "cascade" and landmarks.note is None
    marked = [[203, 101], [248, 104]]  # by hand, the pupils
    assert np.hypot(*(landmarks.eyes - marked).T).max() < 0.08 * 45  # of their distance


@pytest.mark.slow
def test_a_cats_eyes(animals, cat):
    landmarks = find_landmarks(animals, animals.decompose(cat))
    assert landmarks.found == "channels"
    marked = [[174, 107], [320, 132]]
    assert np.hypot(*(landmarks.eyes - marked).T).max() < 0.08 * 148


def test_without_eyes_the_square_is_taken_and_a_sentence_says_so(faces):
    blank = Photo(np.full((90, 120, 3), 128, np.uint8), name="wall.png")
    landmarks = find_landmarks(faces, faces.decompose(blank))
    assert landmarks.found == "square"
    assert landmarks.note == "wall.png: no pair of eyes was found, so the face is aligned by its square"
    left, right = landmarks.eyes
    assert 15 < left[0] < 60 < right[0] < 105 and left[1] == right[1]


def test_axes_of_a_tilted_face():
    eyes = np.array([[20.0, 30.0], [40.0, 40.0]])
    frame = face_frame(eyes, 64)
    assert frame.iod == pytest.approx(np.hypot(20, 10))
    at = lambda plane, x, y: plane[int(y), int(x)]
    assert at(frame.u, 40, 40) == pytest.approx(0.5, abs=0.05) and at(frame.v, 40, 40) == pytest.approx(0, abs=0.05)
    assert at(frame.v, 20, 60) > 0.5  # below the eyes
    along, down = frame.across, np.array(frame.turned(0, 1))
    assert along @ down == pytest.approx(0) and down[1] > 0
    np.testing.assert_allclose(frame.mirrored(np.float32(frame.u))[25:45, 20:40], -frame.u[25:45, 20:40], atol=1e-3)
    np.testing.assert_allclose(frame.mirrored(np.float32(frame.v))[25:45, 20:40], frame.v[25:45, 20:40], atol=1e-3)


def test_mask_covers_the_face_and_ends_softly():
    mask = face_mask(face_frame(np.array([[52.0, 60.0], [76.0, 60.0]]), 128))
    assert mask[60, 64] == 1 and mask[85, 64] == 1 and mask[2, 2] == 0
    assert np.abs(np.diff(mask, axis=0)).max() < 0.2


def test_points_in_the_square():
    assert in_square(np.array([[30.0, 25.0]]), Box(10, 5, 40, "given"), 80).tolist() == [[40.0, 40.0]]
