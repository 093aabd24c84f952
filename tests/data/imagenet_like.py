"""Small folders in ImageNet's layouts, of photographs that scikit-learn and matplotlib carry."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from scipy import io as scipy_io
from sklearn.datasets import load_sample_images

from rbjax.data.class_names import IMAGENET
from rbjax.models import Model, torch_weights

FLOWER, CHINA, HOPPER = "n11939491", "n03877845", "n03763968"
"""Daisy, palace and military uniform: their labels are 985, 698 and 652."""
DEVKIT_ID = {wordnet_id: 1 + 7 * row % 1000 for row, wordnet_id in enumerate(IMAGENET)}
"""ILSVRC2012_ID by WordNet id, in an order of its own; 7 and 1,000 have no common divisor."""


def photographs() -> dict[str, Image.Image]:
    """Returns three photographs, by the class that they are taken for."""
    china, flower = (Image.fromarray(image) for image in load_sample_images().images)
    with Image.open(Path(matplotlib.get_data_path(), "sample_data/grace_hopper.jpg")) as opened:
        hopper = opened.convert("RGB")
    return {FLOWER: flower, CHINA: china, HOPPER: hopper}


def save_folders(path: Path) -> Path:
    """Writes two images of each class into class folders; one is grey, one in CMYK."""
    for wordnet_id, photograph in photographs().items():
        folder = path / wordnet_id
        folder.mkdir(parents=True)
        photograph.save(folder / "ILSVRC2012_val_00000011.JPEG")
        mode = {FLOWER: "RGB", CHINA: "L", HOPPER: "CMYK"}[wordnet_id]
        turned = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert(mode)
        turned.save(folder / "ILSVRC2012_val_00000012.JPEG")
    return path


FLAT = {1: CHINA, 2: FLOWER, 3: HOPPER, 5: FLOWER}
"""The class of each image by its number; the development kit has 6 labels."""


def save_flat(path: Path) -> Path:
    """Writes images beside each other, and the development kit beside the folder."""
    path.mkdir(parents=True)
    shown = photographs()
    for number, wordnet_id in FLAT.items():
        shown[wordnet_id].save(path / f"ILSVRC2012_val_{number:08d}.JPEG")
    save_devkit(path.parent / "ILSVRC2012_devkit_t12")
    return path


def save_devkit(path: Path) -> None:
    """Writes meta.mat and the labels of images 1 to 6 in the development kit's form."""
    (path / "data").mkdir(parents=True)
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")
    fields += ("wordnet_height", "num_train_images")
    leaves = sorted((number, wordnet_id) for wordnet_id, number in DEVKIT_ID.items())
    above = [(1001, "n00001740"), (1002, "n00007846")]  # synsets that are not classes
    synsets = np.empty((len(leaves) + len(above), 1), [(field, object) for field in fields])
    for row, (number, wordnet_id) in enumerate([*leaves, *above]):
        is_leaf = number <= 1000
        children = np.zeros((1, 0)) if is_leaf else np.array([[1.0, 2.0]])
        synsets[row, 0] = (
            *(float(number), wordnet_id, "words", "gloss", float(children.size), children),
            *(0.0 if is_leaf else 1.0, 1300.0 if is_leaf else 0.0),
        )
    scipy_io.savemat(path / "data/meta.mat", {"synsets": synsets})
    truth = [DEVKIT_ID[FLAT.get(number, HOPPER)] for number in range(1, 7)]
    lines = "".join(f"{number}\n" for number in truth)
    (path / "data/ILSVRC2012_validation_ground_truth.txt").write_text(lines)


def packed(devkit: Path) -> Path:
    """Returns the archive of a development kit, beside it."""
    archive = devkit.with_name(f"{devkit.name}.tar.gz")
    with tarfile.open(archive, "w:gz") as file:
        readme = tarfile.TarInfo(f"{devkit.name}/readme.txt")
        file.addfile(readme, io.BytesIO())
        file.add(devkit, devkit.name)
    return archive


def save_weights(path: Path, model: Model) -> Path:
    """Writes torchvision's state dict of a SqueezeNet: red is a daisy, blue a palace.

    Its maps pass the red and the blue of the pixels through; of all outputs but two the weights
    are 0.
    """
    shapes, by_path = torch_weights._shapes(model)
    (layout,) = torch_weights.LAYOUTS["squeezenet"]
    wanted = torch_weights._wanted(layout(shapes, model.image_shape), by_path)
    tensors = {name: np.zeros(want.shape, np.float32) for name, want in wanted.items()}
    for name, array in tensors.items():
        if name == "classifier.1.weight":
            array = tensors[name] = np.zeros((*array.shape, 1, 1), np.float32)
            array[IMAGENET.index(FLOWER), 0] = array[IMAGENET.index(CHINA), 1] = 1.0
        elif name == "features.0.weight":
            array[0, 0, 1, 1] = array[1, 2, 1, 1] = 1.0
        elif name.endswith(("squeeze.weight", "expand1x1.weight")):
            array[0, 0] = array[1, 1] = 1.0
    save_file(tensors, path)
    return path
