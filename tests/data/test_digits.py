import numpy as np

from rbjax.data import load
from rbjax.data.digits import enlarge


def test_sizes_and_types():
    train, test = load("digits", "train"), load("digits", "test")
    assert train.images.shape == (1437, 16, 16, 1)
    assert train.images.dtype == np.uint8
    assert train.images.max() == 255
    assert train.labels.dtype == train.example_ids.dtype == np.int32
    assert test.class_counts.tolist() == [36] * 10
    total = train.class_counts + test.class_counts
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_enlarge_is_bilinear_with_half_pixel_centres():
    image = np.array([[[0.0, 4.0], [8.0, 12.0]]])
    expected = [[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]]
    np.testing.assert_array_equal(enlarge(image), [expected])
    assert enlarge(image).dtype == np.uint8


def test_every_image_is_one_of_scikit_learns():
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = enlarge(np.reshape(pixels, (-1, 8, 8)) * 255 / 16)
    known = {(image.tobytes(), label) for image, label in zip(images, target, strict=True)}
    splits = [load("digits", split) for split in ("train", "test")]
    ours = [(x.tobytes(), y) for d in splits for x, y in zip(d.images, d.labels, strict=True)]
    assert len(known) == len(set(ours)) == len(ours) == 1797
    assert set(ours) == known


def test_train_and_test_share_no_image():
    images = [{image.tobytes() for image in load("digits", s).images} for s in ("train", "test")]
    assert not images[0] & images[1]
