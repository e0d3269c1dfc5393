"""Which bundled model suits a photo: that of animals, that of people, or none for sure."""

from collections.abc import Mapping
from typing import NamedTuple

from . import photos
from .classifier import CERTAIN
from .decomposer import Decomposer, cached
from .photos import Photo
from .weights import bundled


class Choice(NamedTuple):
    """What was recognised in a photo; nothing is stated below a calibrated probability of 80 %."""

    model: str | None  # the model whose class is certain; None: the user chooses
    stated: str | None  # "cat", "person" ...; the stated class
    confidence: float  # calibrated probability that this is right; None stated: of the likeliest guess
    sentence: str  # to show; without a model it offers the choice


def choose(image, models: Mapping[str, Decomposer] | None = None, preferred: str = "") -> Choice:
    """Find a cat's and a human face, and classify them and the whole photo with each model.

    Args:
        image: whatever `photos.load` accepts.
        models: by name; default: the bundled ones. Of those with the same classes the first is asked.
        preferred: name of the one to ask instead of others with its classes.
    Raises:
        PhotoError: not a photo.
    """
    photo = image if isinstance(image, Photo) else photos.load(image)
    models = models if models is not None else {name: cached(name) for name in bundled()}
    asked: dict[tuple[str, ...], str] = {}  # one model for each set of classes
    for name in sorted(models, key=lambda name: name != preferred):
        asked.setdefault(models[name].config.domains, name)
    guesses: list[tuple[float, str, str]] = []  # (probability, name of the model, word)
    for name in asked.values():
        model = models[name]
        word, probability = model.guess(model.classify(photo))
        guesses.append((probability, name, word))
    sure = [guess for guess in guesses if guess[0] >= CERTAIN]
    if len(sure) == 1:
        probability, name, word = sure[0]
        return Choice(name, word, probability, f"{word}, {probability:.0%} sure: model {name}")
    words = dict.fromkeys(model.spoken(domain) for model in models.values() for domain in model.config.domains)
    doubt = f"may be {' or '.join(word for _, _, word in sure)}" if sure else "no class is sure"
    sentence = f"{photo.name}: {doubt}; choose the model and the class yourself (known: {', '.join(words)})"
    return Choice(None, None, max(guess[0] for guess in guesses), sentence)
