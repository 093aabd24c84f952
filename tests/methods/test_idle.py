"""Options that would do nothing are refused; at their defaults they are not set."""

import pytest

from rbjax import methods

OF_NETWORKS = [
    "network_steps",
    "edsr_blocks",
    "edsr_width",
    "cae_width",
    "min_edsr_psnr",
    "min_cae_psnr",
]
IDLE = [
    ("augmix", {"jensen_shannon": False}, {"divergence_weight": 6.0}, "jensen_shannon = true"),
    ("ant", {"restart_steps": 0}, {"restart_learning_rate": 0.1}, "restart_steps above 0"),
    ("ant", {"replay_share": 0.0}, {"history": 2}, "replay_share above 0"),
    ("deepaugment", {}, {"augmix_severity": 1.0}, "augmix = true"),
    ("cfa", {"form": "pgd"}, {"beta": 1.0}, "form = 'trades'"),
    ("cfa", {"form": "pgd"}, {"lambda_2": 0.3}, "form = 'trades'"),
    ("dafa", {"form": "pgd"}, {"beta": 1.0}, "form = 'trades'"),
    ("cfol", {"rate": 0.0}, {"uniform_share": 0.3}, "rate above 0"),
    ("cfol", {"uniform_share": 1.0}, {"rate": 0.5}, "uniform_share below 1"),
    ("frl", {"reweight_rate": 0.0}, {"most_weight": 0.3}, "reweight_rate above 0"),
    *[
        ("frl", {"reweight_rate": 0.0, "remargin_rate": 0.0}, option, "reweight_rate or remargin_")
        for option in ({"tolerance": 0.1}, {"warmup_epochs": 2})
    ],
    *[
        ("ant", {"clean_share": 1.0, "replay_share": 0.0}, option, "clean_share below 1")
        for option in ({"generator": "3x3"}, {"distance": 1.0}, {"restart_steps": 0})
    ],
    *[
        ("shared", {"sigma": 0.0}, option, "sigma above 0")
        for option in ({"heap_size": 1}, {"loss_clip": 9.0}, {"step_size": 0.1}, {"num_steps": 2})
    ],
    ("deepaugment", {"noise_share": 0.0}, {"noise_epsilon": 0.5}, "noise_share above 0"),
    ("deepaugment", {"noise_epsilon": 0.0}, {"noise_share": 1.0}, "noise_epsilon above 0"),
    ("classwise_pgd", {}, {"critical_weight": 3.0}, "a critical_class"),
    *[
        ("deepaugment", {"source": "networks"}, option, "source = 'noise2net' or 'both'")
        for option in ({"noise_epsilon": 0.5}, {"noise_share": 1.0})
    ],
    *[
        ("deepaugment", {"source": "noise2net"}, {name: 7}, "source = 'networks' or 'both'")
        for name in OF_NETWORKS
    ],
]


@pytest.mark.parametrize(("name", "form", "option", "needed"), IDLE)
def test_options_that_do_nothing_are_refused(name, form, option, needed):
    ((key, _),) = option.items()
    with pytest.raises(ValueError, match=rf"{key} is .* acts only with {needed}.*: leave it at "):
        methods.create(name, **form, **option)
    methods.create(name, **form)


def test_options_are_taken_where_they_act():
    methods.create("augmix", divergence_weight=6.0)
    methods.create("cfa", form="trades", beta=1.0, lambda_2=0.3)
    methods.create("dafa", form="trades", beta=1.0)
    methods.create("frl", reweight_rate=0.0, tolerance=0.1, warmup_epochs=2)
    methods.create("frl", remargin_rate=0.0, most_weight=0.3)
    methods.create("shared", heap_size=1, step_size=0.1)
    methods.create("classwise_pgd", critical_class=0, critical_weight=3.0)
    methods.create("ant", restart_learning_rate=0.1, history=2)
    options = {"noise_share": 1.0, "network_steps": 7, "augmix": True, "augmix_severity": 1.0}
    methods.create("deepaugment", source="both", **options)
