"""Folders as people have them: 16 bits, patients, tables, several sizes, another hospital's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rbjax.data import custom, loading, looks, own_images, sources
from rbjax.training import run_directory

CLASSES = ("benign", "malignant")


def scan(number: int, size=(6, 8), top: int = 65535) -> np.ndarray:
    return np.random.default_rng(number).integers(0, top, size, np.uint16, endpoint=True)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def hospital(root: Path, *, first: int = 0, size=(6, 8), classes=CLASSES, top: int = 65535) -> Path:
    """Six patients of two scans each in each class's folder, class/patient/file."""
    for label, name in enumerate(classes):
        for patient in range(6):
            for number in range(2):
                seed = first + 100 * label + 10 * patient + number
                file = root / name / f"{name[0]}{patient}" / f"{number}.png"
                save(file, scan(seed, size, top))
    return root


def folder(path: Path, **options) -> sources.Source:
    return sources.source("folder", options, path=str(path))


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def files_of(dataset: loading.Dataset) -> list[str]:
    assert dataset.files is not None
    return dataset.files.tolist()


def patients_of(dataset: loading.Dataset) -> set[str]:
    return {str(Path(file).parent) for file in files_of(dataset)}


def test_scans_of_sixteen_bits_by_patient(tmp_path, capsys):
    root = hospital(tmp_path)
    train = custom.load(folder(root), "train")
    for row in (0, 7, train.num_examples - 1):
        with Image.open(root / files_of(train)[row]) as stored:
            expected = np.asarray(stored) / np.float32(65535)
        np.testing.assert_array_equal(train.images[row, ..., 0], expected)
    assert train.info.image_shape == (6, 8, 1)
    assert train.images.dtype == np.float32
    np.testing.assert_allclose(train.info.mean, train.images.mean(), rtol=1e-6)
    np.testing.assert_allclose(train.info.std, train.images.std(), rtol=1e-5)
    said = capsys.readouterr().err
    assert "24 of 24 images with 16 bits: pixels are float32, the value divided by" in said
    assert "12 folders inside those of the classes (b0, b1, b2, b3, b4, ...): where" in said
    assert all(f"{root}: {note}\n" in said for note in train.info.notes)
    # Kept whole they are on one side: of test and of validation.
    grouped = folder(root, groups="subfolders", test_fraction=0.34)
    train, test = (custom.load(grouped, split) for split in ("train", "test"))
    rest, held_out = loading.split_validation(train, 0.25)
    assert held_out is not None
    patients = [patients_of(part) for part in (rest, held_out, test)]
    assert [len(part) for part in patients] == [6, 2, 4]
    assert len(set.union(*patients)) == 12
    assert "12 groups, each kept whole" in capsys.readouterr().err
    # Without, scans of a patient are on both sides: what it is for.
    train, test = (custom.load(folder(root), split) for split in ("train", "test"))
    assert patients_of(train) & patients_of(test)
    few = folder(root, groups="subfolders", test_fraction=0.01)
    with pytest.raises(ValueError, match=r"benign has 12 images in whole groups, .* 0.01 makes 0"):
        custom.load(few, "test")


def test_a_job_lists_a_folder_once_and_reads_each_file_once(tmp_path, monkeypatch):
    """For digests and headers, description, train and test; another call looks again."""
    source, listed, read = folder(hospital(tmp_path / "a")), [], []
    find, content_of = own_images.ENCODED["folder"], looks.content_of

    def watched_find(*args, **options):
        listed.append(args)
        return find(*args, **options)

    def watched_read(file):
        read.append(file)
        return content_of(file)

    monkeypatch.setitem(own_images.ENCODED, "folder", watched_find)
    monkeypatch.setattr(looks, "content_of", watched_read)

    @run_directory.job
    def job(_, workdir):
        custom.fingerprint(source)
        return custom.info(source), [custom.load(source, split) for split in ("train", "test")]

    info, (train, test) = job({}, str(tmp_path / "run"))
    assert (len(listed), len(read)) == (1, 24)
    assert info == train.info
    assert train.num_examples + test.num_examples == len(set(read)) == 24
    first = custom.fingerprint(source)
    save(tmp_path / "a" / "benign" / "b0" / "0.png", scan(99))
    assert custom.fingerprint(source) != first
    assert len(listed) == 3
    # Of what there is no room for each file is read twice.
    monkeypatch.setattr(looks, "_ROOM", 0)
    read.clear()
    with looks.once():
        assert custom.load(folder(hospital(tmp_path / "b")), "train").num_examples > 0
    assert len(set(read)) == 24 < len(read)


def test_what_uses_little_of_sixteen_bits_is_said(tmp_path, capsys):
    custom.info(folder(hospital(tmp_path, top=4095)))
    assert "the largest value is 0.06" in capsys.readouterr().err


def test_images_of_several_sizes(tmp_path, capsys):
    root = hospital(tmp_path)
    save(root / "benign" / "x.png", scan(900, (12, 12)))
    save(root / "benign" / "y.png", scan(901, (12, 12)).T)
    save(root / "malignant" / "z.png", scan(902, (3, 4)))
    with pytest.raises(
        ValueError, match=r"of 3 sizes, height x width: 24 of 6 x 8 \(ben.*"
    ) as error:
        custom.load(folder(root), "train")
    assert "2 of 12 x 12 (benign/x.png); 1 of 3 x 4 (malignant/z.png); give" in str(error.value)
    train = custom.load(folder(root, image_size=(6, 8)), "train")
    assert train.images.shape[1:] == (6, 8, 1)
    assert train.images.dtype == np.float32
    assert "3 of 27 images are not 6 x 8: scaled (bilinear" in capsys.readouterr().err
    # Bytes that are no image are all counted.
    for name in ("a.png", "b.png", "c.png"):
        (root / "benign" / name).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(
        ValueError, match=r"3 of 30 images cannot be read: .*a.png: not .*; .*b.png"
    ):
        custom.load(folder(root), "train")


def test_a_table_says_label_group_and_split(tmp_path, capsys):
    root = hospital(tmp_path / "scans")
    files = sorted(file.relative_to(root).as_posix() for file in root.rglob("*.png"))
    save(root / "apart.png", scan(1000))
    splits = ["train", "Test", "val", "train"]
    rows = [
        f"{file};grade {number % 3};p{number // 4};{splits[number % 4]}"
        for number, file in enumerate(files)
    ]
    # As Excel writes it: semicolons, a mark before the first name, an empty line, backslashes.
    rows[5] = rows[5].replace("/", "\\")
    text = "\ufefffile;label;group;split"
    named = table(tmp_path / "scans.csv", text, *rows, ";;;")
    source = folder(root, metadata=str(named))
    train, test = (custom.load(source, split) for split in ("train", "test"))
    assert train.info.class_names == ("grade 0", "grade 1", "grade 2")
    assert (train.num_examples, test.num_examples) == (12, 6)
    assert train.groups is not None
    for row, file in enumerate(files_of(train)):
        number = files.index(file)
        assert train.labels[row] == number % 3
        assert train.groups[row] == number // 4
    assert set(files_of(test)) == set(files[1::4])
    said = capsys.readouterr().err
    assert "left out, not in the table: 1 (apart.png)" in said
    assert "6 images of split validation are left out" in said
    assert "6 groups are in train and in test: p0; p1; p2; p3; p4; and 1 more" in said
    mark = custom.fingerprint(source)
    table(named, text, *rows[:-1])
    assert custom.fingerprint(source) != mark
    # A table of groups alone: classes are the folders; numbers are in the order of their size.
    table(named, "FILE\tpatient", *(f"{file}\tp{i // 4}" for i, file in enumerate(files)))
    source = folder(root, metadata=str(named), groups="patient")
    train, test = (custom.load(source, split) for split in ("train", "test"))
    assert train.info.class_names == CLASSES
    assert not patients_of(train) & patients_of(test)
    (root / "inside.csv").write_text(
        "file,grade\n" + "".join(f"{file},{11 - i % 12}\n" for i, file in enumerate(files))
    )
    source = folder(root, metadata="inside.csv", labels="grade", test_fraction=0.5)
    assert custom.info(source).class_names == tuple(map(str, range(12)))


def test_a_table_over_folders_of_splits(tmp_path, capsys):
    root = tmp_path / "scans"
    files = [f"{s}/{c}/{n}.png" for s in ("train", "test", "val") for c in CLASSES for n in (0, 1)]
    for number, file in enumerate(files):
        save(root / file, scan(number))
    named = table(root / "scans.csv", "file", *files)
    source = folder(root, metadata="scans.csv")
    # As without a table val is left out where there is test, and test where there is none.
    train, test = (custom.load(source, split) for split in ("train", "test"))
    assert (sorted(files_of(train)), sorted(files_of(test))) == (files[:4], files[4:8])
    assert "4 images of split validation are left out" in capsys.readouterr().err
    table(named, "file", *files[:4], *files[8:])
    assert sorted(files_of(custom.load(source, "test"))) == files[8:]
    assert "no image of the table is of split test: those of val" in capsys.readouterr().err
    # One file beside them would put all splits together.
    save(root / "more" / "benign" / "x.png", scan(50))
    table(named, "file,label", *(f"{file},a" for file in (*files, "more/benign/x.png")))
    with pytest.raises(ValueError, match=r"1 of 13 images are in no .* split: more/benign/x.png$"):
        custom.load(source, "train")


def test_mistakes_in_a_table_are_named(tmp_path):
    root = hospital(tmp_path)
    place, files = tmp_path / "scans.csv", [f"benign/b{i}/0.png" for i in range(4)]

    def refused(message: str, *lines: str, **options) -> None:
        table(place, *lines)
        with pytest.raises(ValueError, match=message):
            custom.load(folder(root, metadata="scans.csv", **options), "train")

    good = [f"{file},{'ab'[i % 2]}" for i, file in enumerate(files)]
    head = "file,label"
    refused(r"line 1 has no column 'file'; .* did you mean 'files'", "files,label", *good)
    refused("line 3, column file: benign/b0/0.png stands in line 2", head, good[0], *good)
    refused("line 3: has 1 columns; line 1 names 2", head, good[0], files[1])
    refused(
        r"column label: is empty for 2 of 4 images: line 3 \(benign/b1/0.png\), line 4",
        *(head, good[0], f"{files[1]},", f"{files[2]}, ", good[3]),
    )
    wrong = "line 2, column split: 'tset' is unknown; allowed: train, test"
    refused(wrong, "file,split", f"{files[0]},tset")
    wrong = r"column file: 1 of 5 files are not in .*: line 6 \(benign/no.png\)"
    refused(wrong, head, *good, "benign/no.png,a")
    refused(r"line 2, column file: '../x.png' is not below", head, "../x.png,a")
    wrong = r"dataset.labels = 'grade': .* has no column 'grade'; it has file, label"
    refused(wrong, head, *good, labels="grade")
    wrong = r"dataset.groups = 'patients': .*did you mean 'patient'"
    refused(wrong, f"{head},patient", *(f"{row},1" for row in good), groups="patients")
    refused("has no rows", head)
    wrong = r"groups = 'subfolders': the classes are a column of .*such as dataset.groups=patient"
    refused(wrong, head, *good, groups="subfolders")
    splits = [f"{row},{'train' if row[-1] == 'a' else 'test'}" for row in good]
    refused("class b holds no image of split train", f"{head},split", *splits)
    place.write_bytes("file,label\nbenign/b0/0.png,a\nbenign/b1/0.png,b\xf6se\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"scans.csv line 3: is not UTF-8"):
        custom.load(folder(root, metadata="scans.csv"), "train")
    with pytest.raises(ValueError, match=r"metadata = 'scan.csv': no such file, neither"):
        custom.load(folder(root, metadata="scan.csv"), "train")
    for options, message in (
        ({"labels": "grade"}, "labels = 'grade': a column of dataset.metadata, which is not given"),
        ({"groups": "patient"}, "groups = 'patient': a column .* allowed without it: subfolders"),
    ):
        with pytest.raises(ValueError, match=message):
            folder(root, **options)


def test_another_hospital_is_a_test_set(tmp_path, capsys):
    ours = folder(hospital(tmp_path / "a"))
    info = custom.info(ours)
    theirs = tmp_path / "b"
    for number in range(5):  # one class alone, in colour, of other sizes, one of them ours
        file = theirs / "malignant" / f"{number}.png"
        save(file, np.full((12, 8 + number, 3), 40 * number, np.uint8))
    save(theirs / "malignant" / "same.png", scan(100))
    source = own_images.elsewhere("folder", str(theirs), info)
    capsys.readouterr()
    test = own_images.load_other(source, info, trained_on=ours)
    assert test.labels.tolist() == [1] * 6
    assert test.images.shape == (6, 6, 8, 1)
    assert test.info.mean == info.mean
    assert test.split == f"folder {theirs}"
    shown = dict(zip(files_of(test), test.images, strict=True))
    np.testing.assert_array_equal(
        shown["malignant/same.png"][..., 0], scan(100) / np.float32(65535)
    )
    np.testing.assert_allclose(shown["malignant/2.png"], np.float32(80 / 255), atol=1e-6)
    said = capsys.readouterr().err
    for note in (
        "5 of 6 images are not 6 x 8: scaled",
        "images in colour are turned grey",
        "no image of class benign",
        f"1 of 6 images are among those of {tmp_path / 'a'}, byte for byte: malignant/same.png",
        f"their mean is {test.images.mean():.3f}, that of the training images {info.mean[0]:.3f}",
    ):
        assert f"{theirs}: {note}" in said
    own_images.load_other(source, info, trained_on=ours)
    assert capsys.readouterr().err == ""  # once
    # Its 12 bits in 16 are said, and grey images beside a model for colours.
    dark = hospital(tmp_path / "d", top=4095)
    for seen, note in (
        (info, "the largest value is 0.06"),
        (info._replace(image_shape=(6, 8, 3), mean=info.mean * 3), "images are grey, and read as"),
    ):
        own_images.load_other(own_images.elsewhere("folder", str(dark), seen), seen)
        assert note in capsys.readouterr().err
    # By a table in its folder, which names classes as ours.
    rows = ["file,label", "malignant/0.png,benign", "malignant/1.png,malignent"]
    named = table(theirs / "list.csv", *rows)
    source = own_images.elsewhere("folder", str(named), info)
    wrong = r"do not have: malignent \(1\); theirs are .*did you mean 'malignant'"
    with pytest.raises(ValueError, match=wrong):
        own_images.load_other(source, info)
    table(named, *rows[:2], "malignant/1.png,malignant")
    test = own_images.load_other(source, info)
    found = dict(zip(files_of(test), test.labels.tolist(), strict=True))
    assert found == {"malignant/0.png": 0, "malignant/1.png": 1}
    # The column that training names its classes by may be called otherwise here.
    assert own_images.elsewhere("folder", str(named), info, labels="LABEL").labels == "LABEL"
    assert own_images.elsewhere("folder", str(named), info, labels="diagnosis").labels is None
    # A folder with splits of its own: their test images.
    for split in ("train", "test"):
        for number, name in enumerate(CLASSES):
            save(tmp_path / "c" / split / name / "0.png", scan(2000 + number + 10 * len(split)))
    source = own_images.elsewhere("folder", str(tmp_path / "c"), info)
    for _ in range(2):  # also where there is nothing else
        assert sorted(files_of(own_images.load_other(source, info))) == [
            f"test/{c}/0.png" for c in CLASSES
        ]
        shutil.rmtree(tmp_path / "c" / "train", ignore_errors=True)
    with pytest.raises(ValueError, match=r"split train holds no image .* those of test$"):
        custom.load(folder(tmp_path / "c"), "train")
