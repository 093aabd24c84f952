"""A dataset in blocks of one size, over all devices and processes, finished ones in a journal.

What runs a model on a whole dataset goes through `map_blocks`. Of several processes each has all
images, computes its share of the blocks on its own devices, and gets the results of all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rbjax import journal as journals
from rbjax import processes
from rbjax.black_box import raised_here
from rbjax.errors import spelled
from rbjax.inputs import ANY_NUMBER, UNIT_INTERVAL, check_images, check_integer, check_labels
from rbjax.journal import Journal
from rbjax.progress import Progress, Tell
from rbjax.typing import Array, Device, Key

AXIS = "data"
"""The axis of the devices over which the rows of a batch are split."""
_BATCH_SIZES = {"cpu": 128}
_LARGER_BATCH = 1024
"""Of every platform but the CPU, on each device."""
_MOST_WASTE = 0.75
"""A block that would be filled less than this is made smaller."""


class Placement:
    """Where arrays go: a row of devices, each with its share or with the whole."""

    def __init__(self, devices: Sequence[Device] | None = None) -> None:
        """Lays the devices out in one axis.

        Args:
            devices: the devices; None: all local ones.

        Raises:
            ValueError: if there is none.
        """
        if devices is not None and not len(devices):
            raise ValueError("devices is empty; give at least one, or None for all local ones")
        if not all(hasattr(device, "platform") for device in devices or ()):
            raise ValueError(f"devices is {spelled(devices)}; give some of jax.devices()")
        self.devices = tuple(jax.local_devices() if devices is None else devices)
        mesh = Mesh(np.asarray(self.devices), (AXIS,))
        self.rows = NamedSharding(mesh, PartitionSpec(AXIS))
        self.whole = NamedSharding(mesh, PartitionSpec())

    def split(self, tree: Any) -> Any:
        """Returns arrays (B, ...) on the devices, each with its share of the rows."""
        return processes.put(tree, self.rows)

    def replicate(self, tree: Any) -> Any:
        """Returns a pytree of arrays on the devices, the whole of it on each."""
        return processes.put(tree, self.whole)


class Examples(NamedTuple):
    """A dataset that was checked."""

    images: Any
    """(N, H, W, C) uint8, or floating in [0, 1]; whatever is indexed by slices and row numbers."""
    labels: np.ndarray
    """(N,) int32."""
    example_ids: np.ndarray
    """(N,) int32."""
    num_classes: int
    contents: journals.Contents | None = None
    """Where a journal is kept: what the images are."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Returns some images as they are stored, their values checked.

        Args:
            rows: (M,) ascending or not; neighbours in a row are read as one slice.

        Raises:
            ValueError: for values outside [0, 1].
        """
        first, stop = int(rows[0]), int(rows[0]) + len(rows)
        is_slice = int(rows[-1]) == stop - 1 and np.array_equal(rows, np.arange(first, stop))
        images = np.asarray(self.images[first:stop] if is_slice else self.images[rows])
        check_images(images)
        if self.contents is not None:
            self.contents.note(rows, images)
        return images


def check_examples(
    images: Any,
    labels: Any,
    *,
    count_classes: Callable[[jax.ShapeDtypeStruct], int],
    example_ids: Any = None,
) -> Examples:
    """Returns what a person gives to a call as that wants it.

    Args:
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by slices and row numbers. Of what is not in memory only shape and type are
            checked here, and the values as they are read.
        labels: (N,) integers, the true classes.
        count_classes: from the shape of a batch of one to the model's number of classes.
        example_ids: (N,) integers; None: the row numbers.

    Returns:
        The examples.

    Raises:
        ValueError: for wrong shapes or values.
    """
    images = np.asarray(images) if isinstance(images, jax.Array | list) else images
    is_elsewhere = isinstance(images, np.memmap) or not isinstance(images, np.ndarray)
    check_images(images[:0] if is_elsewhere and hasattr(images, "dtype") else images)
    num_images = len(images)
    if num_images == 0:
        raise ValueError("images holds no image; there must be at least one")
    num_classes = count_classes(jax.ShapeDtypeStruct((1, *images.shape[1:]), np.float32))
    if num_classes < 2:
        raise ValueError("logits_fn has one class; there must be at least two")
    labels = check_labels(np.asarray(labels), num_examples=num_images, num_classes=num_classes)
    ids = np.arange(num_images) if example_ids is None else np.asarray(example_ids)
    ids = check_labels(ids, num_examples=num_images, num_classes=ANY_NUMBER, field="example_ids")
    return Examples(images, labels, ids, num_classes)


class Block(NamedTuple):
    """Some rows of a dataset, computed together."""

    name: str
    """Of its file in a journal."""
    places: slice
    """Among all rows of the call."""
    rows: np.ndarray
    """(M,) numbers of the images."""
    padded: np.ndarray
    """(size,) the same, the last one repeated: what a compiled program takes."""

    @property
    def size(self) -> int:
        """Rows with the padding."""
        return len(self.padded)

    def fill(self, values: np.ndarray) -> np.ndarray:
        """Returns values (M, ...) with the last one repeated until there are `size`."""
        missing = len(self.padded) - len(values)
        return np.pad(values, ((0, missing), *((0, 0),) * (values.ndim - 1)), mode="edge")


def cut(
    rows: np.ndarray,
    size: int,
    *,
    name: str = "",
    smaller: Sequence[int] = (),
    multiple_of: int = 1,
) -> list[Block]:
    """Returns rows in blocks.

    Args:
        rows: (N,).
        size: of every block; the last one may have fewer rows.
        name: what the names of the blocks begin with.
        smaller: descending sizes for the last blocks, so that little is filled up; each of them
            is compiled once.
        multiple_of: what blocks are padded to a multiple of.

    Returns:
        The blocks, in the order of the rows.
    """
    blocks, start, sizes = [], 0, (size, *smaller)
    while start < len(rows):
        left = len(rows) - start
        size = ([s for s in sizes if left >= _MOST_WASTE * s] or sizes[-1:])[0]
        places = slice(start, min(start + size, len(rows)))
        own, length = rows[places], -(-size // multiple_of) * multiple_of
        padded = np.concatenate([own, np.repeat(own[-1:], length - len(own))])
        blocks.append(Block(f"{name}-block-{len(blocks):06d}", places, own, padded))
        start += size
    return blocks


def map_blocks(
    function: Callable[[Block, Any], Mapping[str, Any]],
    blocks: Sequence[Block],
    *,
    read: Callable[[Block], Any] = lambda _: None,
    journal: Journal | None = None,
    fields: Sequence[str] | None = None,
    finished: Callable[[Block, Mapping[str, np.ndarray]], None] | None = None,
    tell: Tell | None = None,
) -> dict[str, np.ndarray]:
    """Returns a function's results on all blocks, each computed by one of the processes.

    Args:
        function: (block, what was read of it) -> arrays by name, (M, ...) or longer where the block
            was padded, or numbers.
        blocks: of `cut`, at least one.
        read: what a block needs; called in a thread while the block before is computed, and not
            for a block that the journal has.
        journal: where finished blocks are kept for a later call.
        fields: names of what is returned; None: everything. The rest is for the journal and for
            `finished` alone.
        finished: called with each block of this process and its results as it ends.
        tell: called with how many rows of this process are done.

    Returns:
        Arrays (N, ...) by name; of a number (len(blocks),).
    """
    own = list(enumerate(blocks))[jax.process_index() :: jax.process_count()]
    is_idle = not own
    # A process without a block of its own computes the first: what results look like is known.
    own = own or [(0, blocks[0])]
    whole: dict[str, np.ndarray] = {}
    done, of = 0, sum(len(block.rows) for _, block in own)

    def load(block: Block) -> tuple[dict[str, np.ndarray] | None, Any]:
        stored = None if journal is None else journal.read_block(block.name, block.rows)
        if stored and set(fields or ()) <= set(stored):
            arrays = [stored[name] for name in fields or stored]
            if all(x.ndim == 0 or len(x) == len(block.rows) for x in arrays):
                return stored, None
        return None, read(block)

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(load, own[0][1])
        for (number, block), following in itertools.zip_longest(own, own[1:]):
            results, loaded = ahead.result()
            if following is not None:
                ahead = reader.submit(load, following[1])
            if results is None:
                with raised_here():
                    arrays = {name: np.asarray(x) for name, x in function(block, loaded).items()}
                results = {k: x[: len(block.rows)] if x.ndim else x for k, x in arrays.items()}
                if journal is not None:
                    journal.write_block(block.name, block.rows, **results)
            for name in fields or results:
                value = results[name]
                length = blocks[-1].places.stop if value.ndim else len(blocks)
                array = whole.setdefault(name, np.zeros((length, *value.shape[1:]), value.dtype))
                if not is_idle:
                    array[block.places if value.ndim else number] = value
            if finished is not None and not is_idle:
                finished(block, results)
            done += len(block.rows)
            if tell is not None:
                tell(Progress("", done, of))
    if jax.process_count() == 1:
        return whole
    return {name: sum_over_processes(whole[name]) for name in sorted(whole)}


def sum_over_processes(own: np.ndarray) -> np.ndarray:
    """Returns an array of which each process has written other places, the rest being 0.

    Args:
        own: what this process has; of any dtype, since its bytes are gathered.

    Returns:
        The array with the places of all processes.
    """
    if jax.process_count() == 1:
        return own
    from jax.experimental import multihost_utils

    parts = multihost_utils.process_allgather(np.ascontiguousarray(own).reshape(-1).view(np.uint8))
    return np.sum(parts, axis=0, dtype=np.uint8).view(own.dtype).reshape(own.shape)


class Blocks(NamedTuple):
    """How a model is run on a dataset: in blocks of one size, over the devices."""

    examples: Examples
    placement: Placement
    size: int
    """Rows of a block, the same for any number of devices; they are padded to a multiple of it."""
    journal: Journal | None = None
    tell: Tell | None = None

    def kept_in(
        self, folder: str | Path | None, key: Key, *, call: str, model: Any, **about: Any
    ) -> Blocks:
        """Returns the same with a journal for finished blocks; None: none.

        Args:
            folder: of the journal, which refuses another call.
            key: of the call.
            call: what it does, such as "attacks".
            model: as a person gave it: it is known by its program and its weights.
            **about: what else the results depend on.

        Raises:
            ValueError: for another call's journal, or a model that cannot be known.
        """
        if folder is None:
            return self
        examples, journal = journals.open_for(
            folder, self.examples, key, call=call, batch_size=self.size, model=model, **about
        )
        return self._replace(examples=examples, journal=journal)

    def map(
        self,
        function: Callable[[Block, Array], Mapping[str, Any]],
        rows: np.ndarray | None = None,
        *,
        task: str = "",
        name: str = "",
        fields: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns a function's results on some of the images, by name.

        Args:
            function: (block, images (size, H, W, C) float32 on the devices) -> arrays by name,
                (size, ...); "predictions" are compared with the labels as they come.
            rows: (M,) numbers of the images, at least one; None: all.
            task: what `Progress` says.
            name: of the blocks' files in the journal.
            fields: those returned, (M, ...), that a journal must have; None: all.
        """
        rows = np.arange(len(self.examples.labels)) if rows is None else rows
        blocks = self.cut(rows, name=name)
        own = blocks[jax.process_index() :: jax.process_count()]
        of, done, num_robust = sum([len(block.rows) for block in own]), 0, 0

        def finished(block: Block, results: Mapping[str, np.ndarray]) -> None:
            nonlocal done, num_robust
            done, figures = done + len(block.rows), {}
            if "predictions" in results:
                correct = results["predictions"] == self.examples.labels[block.rows]
                num_robust += int(np.sum(correct))
                figures = {"robust": num_robust}
            assert self.tell is not None
            self.tell(Progress(task, done, of, figures))

        if self.tell is not None:
            self.tell(Progress(task, 0, of))
        return map_blocks(
            function,
            blocks,
            read=self.read,
            journal=self.journal,
            fields=fields,
            finished=None if self.tell is None else finished,
        )

    def cut(self, rows: np.ndarray, **options: Any) -> list[Block]:
        """Returns rows in blocks that the devices can share; `cut` has the options."""
        return cut(rows, self.size, multiple_of=len(self.placement.devices), **options)

    def read(self, block: Block) -> Array:
        """Returns the images of a padded block on the devices, float32 in [0, 1]."""
        images = self.examples.read(block.rows)
        is_eight_bit = images.dtype == np.uint8
        images = UNIT_INTERVAL[images] if is_eight_bit else images.astype(np.float32)
        return self.placement.split(block.fill(images))


def block_size(
    num_rows: int,
    batch_size: int | None,
    placement: Placement,
    journal: str | Path | None = None,
) -> int:
    """Returns the size of blocks.

    Args:
        num_rows: rows there are; a block has no more.
        batch_size: rows at once, over all devices; None: as the journal has it, or by the platform.
        placement: the devices.
        journal: the folder that finished blocks are kept in, if any.

    Raises:
        ValueError: for a size below 1.
    """
    if batch_size is None:
        platform, num_devices = placement.devices[0].platform, len(placement.devices)
        batch_size = _BATCH_SIZES.get(platform, _LARGER_BATCH * num_devices)
        batch_size = settled(journal, "batch_size", batch_size)
    return min(check_integer("batch_size", batch_size, low=1), num_rows)


def settled(journal: str | Path | None, field: str, usual: int) -> int:
    """Returns a size that nobody asked for: that of a journal's header, or the usual one."""
    found = journals.header(journal).get(field) if journal is not None else None
    size = found if isinstance(found, int) and found > 0 else usual
    if jax.process_count() == 1:
        return size
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(size)))
