"""Twenty-five faults, planted one at a time: do the tests that should notice each one fail?

    python tests/faults.py            # all, in a few minutes; exit status 1 if one survives
    python tests/faults.py step rpr   # those of some areas

Each fault is planted in a temporary copy of the tree. A snippet stands once in the package and a
test's name once among the tests (else its file's name is given too), so that code and tests may
move. What a run printed is kept in `faults.md`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Fault(NamedTuple):
    """One change of the package's text, and the tests of which at least one must then fail."""

    area: str
    breaks: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "attacks",
        "the l-inf ball reaches twice as far upwards",
        "return jnp.clip(delta, -epsilon, epsilon)",
        "return jnp.clip(delta, -epsilon, 2 * epsilon)",
        ("test_golden_projection",),
    ),
    Fault(
        "attacks",
        "random starts crowd the centre of the l2 ball",
        "prng.uniform(radius_key) ** (1.0 / math.prod(shape))",
        "prng.uniform(radius_key)",
        ("test_sample_is_uniform_in_the_ball",),
    ),
    Fault(
        "attacks",
        "of several restarts the highest loss is kept, whether it fools or not",
        "fools | (same & (new.merit > old.merit))",
        "(new.merit > old.merit)",
        ("test_fooling_goes_before_the_loss",),
    ),
    Fault(
        "attacks",
        "the squares of the Square attack shrink by their sides, not by their areas",
        "math.sqrt(plan.initial_share / 2**stage * height * width)",
        "math.sqrt(plan.initial_share / 4**stage * height * width)",
        ("test_sides_become_smaller_on_the_published_schedule",),
    ),
    Fault(
        "attacks",
        "DeepFool measures l-inf distances by the largest gradient, not by their sum",
        "functools.partial(dual_sizes, norm=norm))(gradients)",
        'functools.partial(dual_sizes, norm="l1"))(gradients)',
        ("test_deepfool.py::test_the_smallest_perturbation_of_a_linear_model",),
    ),
    Fault(
        "attacks",
        "Auto-PGD never halves its step",
        "jnp.where(halves, state.step_size / 2, state.step_size)",
        "jnp.where(halves, state.step_size / 1, state.step_size)",
        ("test_the_step_is_halved_and_the_best_point_kept",),
    ),
    Fault(
        "attacks",
        "a universal perturbation counts the examples that only fill up a batch",
        "jnp.sum(jnp.where(mask, jnp.minimum(losses, limit), 0.0))",
        "jnp.sum(jnp.minimum(losses, limit))",
        ("test_examples_that_only_fill_up_count_for_nothing",),
    ),
    Fault(
        "attacks",
        "the DLR loss divides by the second largest logit's distance, not the third's",
        "_spread(top, top[:, 2])",
        "_spread(top, top[:, 1])",
        ("test_dlr_values",),
    ),
    Fault(
        "metrics",
        "rows and columns of the confusion matrix are exchanged",
        "counts.at[rows, columns]",
        "counts.at[columns, rows]",
        ("test_rows_are_true_classes",),
    ),
    Fault(
        "metrics",
        "macro F1 leaves out the classes without examples",
        "float(metrics.f1.mean())",
        "float(metrics.f1[metrics.count > 0].mean())",
        ("test_absent_class_counts_in_macro_f1_but_not_in_balanced_accuracy",),
    ),
    Fault(
        "metrics",
        "Wilson's interval is centred too far inwards",
        "(p + z**2 / (2 * n)) / (1 + z**2 / n)",
        "(p + z**2 / n) / (1 + z**2 / n)",
        ("test_eight_of_ten",),
    ),
    Fault(
        "metrics",
        "relative corruption errors forget the clean error",
        "(values.mean(axis=0) - clean) / added",
        "values.mean(axis=0) / added",
        ("test_with_a_baseline",),
    ),
    Fault(
        "rpr",
        "every draw of an example has the same random numbers",
        "jax.vmap(perturbation)(prng.per_draw(keys, lanes.draw), images)",
        "jax.vmap(perturbation)(prng.per_draw(keys, 0 * lanes.draw), images)",
        ("test_equals_the_loop_over_images_and_draws",),
    ),
    Fault(
        "rpr",
        "an image that withstands every draw is taken to fail at the last one",
        "jnp.where(failed != 0, failed * lanes.draw, draws.last + 1)",
        "jnp.where(failed != 0, failed * lanes.draw, draws.last)",
        ("test_all_fail_and_none_fails",),
    ),
    Fault(
        "rpr",
        "draws of robust images are counted one too many",
        "draws=np.sum(np.minimum(repetitions, max_steps), axis=1)",
        "draws=np.sum(repetitions, axis=1)",
        ("test_golden_counts",),
    ),
    Fault(
        "rpr",
        "Holm's correction multiplies every p-value by the number of tests",
        "factors = np.arange(len(order), 0, -1)",
        "factors = np.full(len(order), len(order))",
        ("test_holm",),
    ),
    Fault(
        "rpr",
        "survivors of the last draw are not counted as robust",
        "labels[first_failure > max_steps]",
        "labels[first_failure > max_steps + 1]",
        ("test_golden_ratio",),
    ),
    Fault(
        "data",
        "the long tail falls one class too slowly",
        "(-1.0 / (num_classes - 1))",
        "(-1.0 / num_classes)",
        ("test_exponential_has_the_published_sums_in_both_forms",),
    ),
    Fault(
        "data",
        "every epoch has the same order",
        'seed=seed, name="epoch", epoch=epoch',
        'seed=seed, name="epoch", epoch=0',
        ("test_epochs_and_seeds_differ_and_a_resumed_run_gets_the_same",),
    ),
    Fault(
        "data",
        "an example's identity ignores its label",
        "hashlib.sha256(label.tobytes() + image.tobytes())",
        "hashlib.sha256(image.tobytes())",
        ("test_the_label_counts",),
    ),
    Fault(
        "data",
        "random crops never reach the last row and column",
        "prng.randint(key, (2,), 0, 2 * padding + 1)",
        "prng.randint(key, (2,), 0, 2 * padding)",
        ("test_random_crops_reach_every_window",),
    ),
    Fault(
        "step",
        "gradients are not averaged over devices",
        "gradient = jax.lax.pmean(gradient, AXIS)",
        "gradient = jax.tree.map(lambda g: g, gradient)",
        ("test_step.py::test_eight_devices_and_another_order_of_the_rows_give_the_numbers_of_one",),
    ),
    Fault(
        "step",
        "the average of the weights does not start from the first ones soon enough",
        "jnp.minimum(decay, (1.0 + step) / (10.0 + step))",
        "decay",
        ("test_ema_forgets_the_first_weights_soon",),
    ),
    Fault(
        "step",
        "Mixup's loss forgets the second label",
        "self.share * losses + (1 - self.share) * loss_fn(logits, self.partners)",
        "losses",
        ("test_mixed_losses_are_the_loss_of_the_mixed_labels",),
    ),
    Fault(
        "step",
        "an example is augmented alike in every epoch",
        "[step, _repeat(example_ids)] if recipe.repeats else [epoch]",
        "[step, _repeat(example_ids)] if recipe.repeats else [0 * epoch]",
        ("test_an_example_is_augmented_anew_in_each_epoch",),
    ),
)


def the_file_with(text: str, folder: Path, files: str = "*.py") -> Path:
    """Returns the only file below a folder that holds a text, where it stands once."""
    counts = {path: path.read_text().count(text) for path in sorted(folder.rglob(files))}
    paths = [path for path, count in counts.items() if count and path != Path(__file__)]
    if len(paths) != 1 or counts[paths[0]] != 1:
        raise ValueError(
            f"{text!r} stands in {[str(path.relative_to(ROOT)) for path in paths] or 'no file'}; "
            "it must stand in one place"
        )
    return paths[0].relative_to(ROOT)


def node_ids(fault: Fault) -> list[str]:
    """Returns where pytest finds the tests of a fault."""
    places = []
    for test in fault.tests:
        *file, name = test.split("::")
        path = the_file_with(f"def {name}(", ROOT / "tests", *file)
        places.append(f"{path}::{name}")
    return places


def _status(tests: list[str], fault: Fault | None, cache: Path) -> int:
    """Returns pytest's exit status on a copy of the tree with the fault, if any, in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "runs")
        shutil.copytree(ROOT, copy, ignore=ignored)
        if fault is not None:
            path = copy / the_file_with(fault.old, ROOT / "rbjax")
            path.write_text(path.read_text().replace(fault.old, fault.new))
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *tests],
            cwd=copy,
            env={
                **os.environ,
                "PYTHONPATH": str(copy),
                "JAX_COMPILATION_CACHE_DIR": str(cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
            stdout=subprocess.DEVNULL,
            check=False,
        ).returncode


def main(areas: list[str]) -> int:
    """Prints a table of what was caught; returns the number of faults that were not."""
    chosen = [fault for fault in FAULTS if not areas or fault.area in areas]
    tests = {fault: node_ids(fault) for fault in chosen}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        cache = Path(folder)
        every = sorted({test for some in tests.values() for test in some})
        if _status(every, None, cache):
            raise SystemExit("the tests fail without a fault; nothing was planted")
        statuses = pool.map(lambda fault: _status(tests[fault], fault, cache), chosen)
        print("| area | what the fault breaks | test | |\n|---|---|---|---|")
        missed = 0
        for fault, status in zip(chosen, statuses, strict=True):
            # 1 is a failed assertion; a tree that cannot be collected proves nothing.
            missed += status != 1
            outcome = "caught" if status == 1 else f"**not caught** (status {status})"
            names = ", ".join(f"`{name}`" for name in fault.tests)
            print(f"| {fault.area} | {fault.breaks} | {names} | {outcome} |", flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} caught")
    return missed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
