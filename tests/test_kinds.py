import pytest

from decomp.kinds import channels_of, kinds_of

SHADING = {"active": True, "wavelength": 20.0, "lightness": 0.9, "coherence": 0.1, "where": {"eyes": 1.1}}


def test_measured_kinds():
    assert kinds_of(SHADING, 128) == {"light"}
    assert kinds_of(SHADING | {"lightness": 0.3}, 128) == {"hue"}
    assert kinds_of(SHADING | {"wavelength": 6.0, "where": {"eyes": 2.5}}, 128) == {"fine", "eyes"}
    assert kinds_of(SHADING | {"wavelength": 12.0, "coherence": 0.6}, 128) == {"contour"}
    assert kinds_of(SHADING | {"active": False}, 128) == set()
    assert kinds_of({"name": "channel 1"}, 128) == set()


def test_a_stated_kind_counts():
    assert kinds_of(SHADING | {"kind": "contour"}, 128) == {"contour"}
    assert kinds_of({"name": "eyes", "kind": ["eyes", "light"]}, 128) == {"eyes", "light"}


@pytest.mark.parametrize("kind, numbers", [("light", [1, 3]), ("hue", [2]), ("mouth", [])])
def test_channels_of_a_kind(kind, numbers):
    assert channels_of([SHADING, SHADING | {"lightness": 0.2}, SHADING], 128, kind) == numbers
