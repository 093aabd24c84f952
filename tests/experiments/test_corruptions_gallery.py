"""The gallery's layout: where each image stands, and which of MNIST-C's are framed."""

import numpy as np

from experiments import corruptions_gallery as gallery


def test_images_stand_in_their_column_and_the_published_one_is_framed():
    grey = {"fog": [0.1, 0.2, 0.3, 0.4, 0.5], "stripe": [0.6]}
    rows = {name: [np.full((8, 10, 1), v, np.float32) for v in of] for name, of in grey.items()}
    picture = gallery.draw(np.zeros((8, 10, 1)), rows, "mnist", enlarged=2)
    assert picture.size == (116 + 6 * 24, 16 + 2 * 20)
    pixels = np.asarray(picture)
    for row, values in enumerate(grey.values()):
        for column, value in enumerate([0.0, *values]):
            tile = pixels[16 + 20 * row :, 116 + 24 * column :][:16, :20]
            assert np.all(tile == np.rint(255 * value))
    assert np.all(pixels[36:52, 116 + 48 :] == 255)  # stripe has no severity 2
    framed = np.all(pixels == gallery._FRAME, axis=-1)
    assert framed[15, 116 + 5 * 24 + 5]  # above fog's severity 5
    assert framed[35, 116 + 24 + 5]  # above stripe
    assert not framed[15, 116 + 4 * 24 + 5]
