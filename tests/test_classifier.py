import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from decomp.choice import choose
from decomp.classifier import DomainClassifier, Recognition
from decomp.decomposer import Decomposer
from decomp.export import describe
from decomp.faces import Box, find_face
from decomp.photos import PhotoError, load
from decomp.training.classifier import fit, recognition


@pytest.mark.slow
def test_learns_to_tell_two_textures():
    """Real training on toy photos: stripes one way against stripes the other way."""
    torch.manual_seed(0)
    stripes = (torch.arange(64) // 4 % 2 * 200).to(torch.uint8).expand(24, 3, 64, 64)
    noise = torch.randint(0, 50, (2, 24, 3, 64, 64), dtype=torch.uint8)
    photos = [stripes + noise[0], stripes.mT + noise[1]]
    classifier = DomainClassifier(2)
    fit(classifier, [p[:16] for p in photos], epochs=40, batch=16)
    assert not classifier.training
    with torch.no_grad():
        for y, p in enumerate(photos):
            assert (classifier(p[16:].float() / 127.5 - 1).argmax(1) == y).all()


@pytest.mark.slow
def test_recognition_tells_the_classes_from_anything_else():
    """On toy photos: two kinds of stripes are the classes, everything else is none of them."""
    torch.manual_seed(0)
    stripes = (torch.arange(80) // 5 % 2 * 200).to(torch.uint8).expand(60, 3, 80, 80)
    noise = torch.randint(0, 50, (2, 60, 3, 80, 80), dtype=torch.uint8)
    photos = [stripes + noise[0], stripes.mT + noise[1]]
    classifier = DomainClassifier(2)
    fit(classifier, [p[:40] for p in photos], epochs=8, batch=16)
    other = torch.randint(0, 255, (40, 3, 10, 10), dtype=torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    classifier.recognition = recognition(classifier, [p[:40] for p in photos], other[:30])
    with torch.no_grad():
        outcomes = [classifier.probabilities(p[-10:].float() / 127.5 - 1) for p in (*photos, other)]
    for y, p in enumerate(outcomes):
        assert torch.allclose(p.sum(dim=1), torch.ones(10), atol=1e-5)
        assert (p.argmax(dim=1) == y).float().mean() >= 0.8  # the last outcome is "none of them"


def test_recognition_comes_back_from_its_file(tmp_path):
    measured = Recognition(torch.randn(3, 592), torch.randn(3))
    measured.write(tmp_path)
    again = Recognition.read(tmp_path, 2)
    features = torch.randn(4, 592)
    assert torch.equal(again(features), measured(features))
    assert Recognition.read(tmp_path / "gone", 2) is None
    with pytest.raises(ValueError, match="finite tensors"):
        Recognition.read(tmp_path, 3)


class Known(Recognition):
    """Says the same of every photo."""

    def __init__(self, *probabilities):
        self.outcomes = torch.tensor(probabilities)

    def __call__(self, features):
        return self.outcomes.expand(len(features), -1)


def test_below_80_percent_nothing_is_stated(toy, cat):
    toy.classifier.recognition = Known(0.85, 0.1, 0.05)
    sure = toy.decompose(cat)
    assert sure.stated == sure.domain == "cat" and sure.confidence["cat"] == pytest.approx(0.85)
    toy.classifier.recognition = Known(0.3, 0.35, 0.35)
    unsure = toy.decompose(cat)
    assert unsure.stated is None and unsure.domain == "dog" and describe(unsure)["domain"] is None
    assert toy.decompose(cat, "dog").stated == "dog"  # what a person says is not doubted


def test_a_photo_of_one_pixel_shows_nothing(toy):
    with pytest.raises(PhotoError, match="has 1 x 1 pixels, which is too few; accepted: at least 16 x 16"):
        toy.decompose(np.zeros((1, 1, 3), np.uint8))


def test_of_people_nothing_but_person_is_said(config, cat):
    model = Decomposer(replace(config, domains=("female", "male"), face=("human", "human")))
    model.classifier.recognition = Known(0.3, 0.65, 0.05)
    d = model.decompose(cat)
    assert d.stated == "person" and d.domain == "male"
    assert not {"male", "female"} & set(re.findall(r"\w+", repr(d) + str(describe(d))))
    model.classifier.recognition = Known(0.2, 0.2, 0.6)
    assert model.decompose(cat).stated is None


def test_the_model_is_chosen_by_what_is_found(config, toy, cat):
    faces = Decomposer(replace(config, domains=("female", "male"), face=("human", "human")))
    models = {"animals": toy, "faces": faces}
    toy.classifier.recognition, faces.classifier.recognition = Known(0.9, 0.0, 0.1), Known(0.1, 0.1, 0.8)
    assert choose(cat, models)[:2] == ("animals", "cat")
    toy.classifier.recognition, faces.classifier.recognition = Known(0.1, 0.1, 0.8), Known(0.4, 0.5, 0.1)
    choice = choose(cat, models)
    assert choice[:2] == ("faces", "person") and "male" not in choice.sentence
    for of_toy, of_faces in ((0.9, 0.45), (0.1, 0.1)):  # both sure, none sure
        toy.classifier.recognition = Known(of_toy, 0.0, 1 - of_toy)
        faces.classifier.recognition = Known(of_faces, of_faces, 1 - 2 * of_faces)
        choice = choose(cat, models)
        assert choice[:2] == (None, None) and "choose the model and the class yourself" in choice.sentence
        assert "male" not in choice.sentence


def test_of_models_with_the_same_classes_one_is_asked(config, toy, cat):
    other = Decomposer(config)
    toy.classifier.recognition = other.classifier.recognition = Known(0.9, 0.0, 0.1)
    assert choose(cat, {"first": toy, "second": other}).model == "first"
    assert choose(cat, {"first": toy, "second": other}, preferred="second").model == "second"


def test_a_box_that_cuts_the_face_is_not_taken(toy, cat, monkeypatch):
    cutting, photo = Box(100, 100, 40, "cat"), load(cat)
    whole = find_face(photo, "centre")
    monkeypatch.setattr("decomp.decomposer.find_face", lambda photo, kind: whole if kind == "centre" else cutting)
    toy.config = replace(toy.config, face=("cat", "centre"))
    toy.classifier.recognition = Known(0.5, 0.4, 0.1)
    assert toy.find_box(photo, "cat") == cutting  # nothing speaks against it
    better = {40: 0.2, whole.side: 0.9}
    says = lambda photo, boxes: np.array([[better[box.side], 0, 1 - better[box.side]] for box in boxes])
    monkeypatch.setattr(toy, "probabilities", says)
    assert toy.find_box(photo, "cat") == whole
    better[40] = 0.81
    assert toy.find_box(photo, "cat") == cutting
    better |= {40: 0.1, whole.side: 0.1}
    assert toy.find_box(photo, "cat") == cutting  # a small face in a large photo may look like none
    better |= {150: 0.1}
    assert toy.find_box(photo, "cat", {"cat": Box(90, 100, 150, "cat")}) == whole


def test_a_womans_face_may_look_like_a_mans(toy, cat, monkeypatch):
    photo, found = load(cat), Box(100, 100, 140, "human")
    toy.config = replace(toy.config, face=("human", "human"))
    toy.classifier.recognition = Known(0.5, 0.4, 0.1)
    monkeypatch.setattr(toy, "probabilities", lambda photo, boxes: np.array([[0.3, 0.65, 0.05], [0.9, 0.1, 0.0]]))
    assert toy.find_box(photo, "cat", {"human": found}) == found
