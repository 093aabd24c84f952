"""A job whose sampler is deferred, on digits with a long tail: which classes it trains on."""

import numpy as np

from rbjax import command_line
from rbjax.train import train
from rbjax.training import setup
from rbjax.training.log import read_metrics


def test_a_deferred_sampler_balances_what_training_sees(job, tmp_path, monkeypatch):
    config = job(
        num_epochs=2,
        batch_size=40,
        imbalance__name="exponential",
        imbalance__imbalance_ratio=20.0,
        sampler__name="class_aware",
        sampler__start_epoch=1,
        method__name="standard",
        method__epsilon=None,
        dataset__mixup_alpha=0.2,
        dataset__cutout_size=4,
        dataset__jitter_brightness=0.2,
        dataset__fill="mean",
        model__name="mlp",
        model__widths=(4,),
    )
    seen = {}
    create = setup.create_sampler

    def recorded(config):
        sampler = create(config)

        def record(labels, *, epoch, **keywords):
            rows = sampler(labels, epoch=epoch, **keywords)
            seen[epoch] = np.bincount(labels[rows.reshape(-1)], minlength=10)
            return rows

        return record

    monkeypatch.setattr(setup, "create_sampler", recorded)
    config = command_line.resolve(config, str(tmp_path))
    train(config, str(tmp_path))
    counts = setup.load_train(config)[0].class_counts
    size = seen[0].sum()
    assert size == counts.sum() // 40 * 40
    assert np.all(counts - seen[0] >= 0)  # uniform: no row twice
    assert np.ptp(seen[1]) <= 1  # every class as often
    assert seen[1].sum() == size
    assert seen[1].min() > 2 * counts.min()
    losses = [record["train/loss"] for record in read_metrics(tmp_path)]
    assert len(losses) == 2
    assert losses[1] < losses[0]
