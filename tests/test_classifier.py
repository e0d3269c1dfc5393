import pytest
import torch

from decomp.classifier import DomainClassifier
from decomp.training.classifier import fit


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
