import numpy as np
import pytest
import torch

from decomp.data.dataset import Photos, Turns, domains_of


def test_sample_is_a_function_of_seed_and_number(data):
    photos = Photos(data, "train", ("cat", "person"), 32)
    torch.manual_seed(5)
    first = photos[7]
    torch.manual_seed(6)
    again = Photos(data, "train", ("cat", "person"), 32, memory=1e-6)[7]
    assert torch.equal(first[0], again[0]) and first[1:] == again[1:]
    other = Photos(data, "train", ("cat", "person"), 32, seed=1)
    assert any(not torch.equal(photos[i][0], other[i][0]) for i in range(3))


def test_sampling_leaves_the_global_random_numbers_alone(data):
    photos = Photos(data, "train", ("cat", "person"), 32)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    photos[0]
    assert torch.equal(torch.rand(3), expected)


def test_half_keeps_its_class_and_half_is_turned_into_another(data):
    photos = Photos(data, "train", ("cat", "person"), 32)
    for i in range(20):
        _, y, target = photos[i]
        assert (y == target) == (i % 2 == 0)


def test_domains_are_drawn_equally_often(data):
    photos = Photos(data, "train", ("cat", "person"), 32)
    photos.files[0] = photos.files[0][:2]  # few cats
    drawn = np.mean([photos[i][1] for i in range(300)])
    assert 0.4 < drawn < 0.6


def test_one_domain_is_enough(data):
    assert Photos(data, "train", ("cat",), 32)[1][1:] == (0, 0)


def test_photos_are_pictures_in_range(data):
    x, y = Photos(data, "val", ("cat", "person"), 32).fixed(3)
    assert x.shape == (6, 3, 32, 32) and y.tolist() == [0, 0, 0, 1, 1, 1]
    assert -1 <= x.min() < -0.3 and 0.3 < x.max() <= 1


def test_each_process_takes_its_part_of_every_batch():
    one = list(Turns(8, 24, 8))
    two = [list(Turns(8, 24, 8, rank, 2)) for rank in (0, 1)]
    assert one == [list(range(8, 16)), list(range(16, 24))]
    assert [a + b for a, b in zip(*two)] == one


def test_missing_photos_are_named(data, tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="cat holds no photos"):
        Photos(tmp_path, "train", ("cat",), 32)
    with pytest.raises(ValueError, match="has no folders train/CLASS"):
        domains_of(tmp_path / "train")


def test_domains_are_the_folders(data):
    assert domains_of(data) == ("cat", "person")
