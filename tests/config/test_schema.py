import json
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from rbjax import config as schema
from rbjax import tables
from rbjax.config import catalog

NAMES = {
    "dataset": ("digits", "cifar10"),
    "imbalance": ("balanced", "exponential", "linear", "step", "target", "power"),
    "sampler": ("uniform", "class_aware", "effective_number"),
    "model": ("simple_cnn", "resnet18"),
    "method": ("standard", "pgd", "universal"),
    "loss": ("cross_entropy", "class_balanced", "balanced_softmax", "logit_adjustment"),
    "optimizer": ("sgd", "adam"),
    "schedule": ("constant", "step", "triangular"),
    "attack": ("fgsm", "pgd", "apgd", "carlini_wagner", "universal"),
    "perturbation": ("random_pixels", "gaussian_noise", "rotation"),
    "corruptions": ("none", "common", "fog", "snow"),
}


def mistakes(**changes) -> list[str]:
    """The lines `resolve` raises for `group__field=value` changes of a universal config."""
    config = schema.default()
    config.method.name = "universal"
    config.attacks.pgd = schema.attack("pgd")
    for path, value in changes.items():
        *groups, field = path.split("__")
        node = config
        for group in groups:
            node = node[group]
        with node.ignore_type():
            node[field] = value
    with pytest.raises(schema.ConfigError) as caught:
        schema.resolve(config, NAMES)
    return str(caught.value).splitlines()


def test_default_resolves_and_fills_in_what_applies():
    config = schema.default()
    config.method.name = "universal"
    resolved = schema.resolve(config, NAMES)
    assert resolved.method.epsilon == 8 / 255
    assert resolved.method.form == "simultaneous"
    assert "num_steps" not in resolved.method
    assert resolved.score.max_steps == 250
    json.dumps(resolved.to_dict())
    assert schema.resolve(resolved, NAMES).to_dict() == resolved.to_dict()


def test_attacks_take_the_ball_of_the_method():
    config = schema.default()
    config.method.update(name="pgd", epsilon=0.5, norm="l2")
    config.attacks.own = schema.attack("pgd", epsilon=0.25)
    config.attacks.same = schema.attack("pgd")
    resolved = schema.resolve(config, NAMES)
    assert (resolved.attacks.own.epsilon, resolved.attacks.own.norm) == (0.25, "l2")
    assert (resolved.attacks.same.epsilon, resolved.attacks.same.norm) == (0.5, "l2")


def test_an_attack_of_another_norm_must_say_its_epsilon():
    config = schema.default()
    config.method.update(name="pgd", epsilon=0.5, norm="linf")
    config.attacks.other = schema.attack("pgd", norm="l2")
    with pytest.raises(schema.ConfigError) as caught:
        schema.resolve(config, NAMES)
    assert str(caught.value) == "attacks.other.epsilon is missing: there is no usual one in l2"
    config.attacks.other.epsilon = 2.0
    assert schema.resolve(config, NAMES).attacks.other.epsilon == 2.0
    config = schema.default()  # in linf there is one, also without a method's
    config.attacks.usual = schema.attack("pgd")
    assert schema.resolve(config, NAMES).attacks.usual.epsilon == 8 / 255


def test_carlini_wagner_has_the_norm_l2():
    config = schema.default()
    config.method.update(name="pgd", epsilon=0.5, norm="linf")
    config.attacks.cw = schema.attack("carlini_wagner")
    with pytest.raises(schema.ConfigError, match=r"attacks\.cw\.epsilon is missing.*in l2"):
        schema.resolve(config, NAMES)
    config.method.update(epsilon=12.0, norm="l2")
    resolved = schema.resolve(config, NAMES).attacks.cw
    assert resolved.epsilon == 12.0
    assert "norm" not in resolved
    config.attacks.cw.norm = "l2"
    with pytest.raises(schema.ConfigError, match=r"attacks\.cw\.norm = 'l2': not a field of"):
        schema.resolve(config, NAMES)


def test_defaults_of_a_name():
    config = schema.default()
    for name, num_steps in (("pgd", 10), ("apgd", 100), ("carlini_wagner", 1000)):
        config.attacks.x = schema.attack(name, epsilon=0.5)
        assert schema.resolve(config, NAMES).attacks.x.num_steps == num_steps
    assert "1000 for carlini_wagner" in schema.describe()


def test_the_config_of_a_run_is_read_back():
    config = schema.default()
    config.schedule.update(name="step", milestones=(3, 5))
    resolved = schema.resolve(config, NAMES)
    back = schema.stored(json.loads(json.dumps(resolved.to_dict())))
    assert back.to_dict() == resolved.to_dict()
    assert back.schedule.milestones == (3, 5)


def test_labels_that_reports_use_themselves_are_refused():
    config = schema.default()
    config.attacks.clean = schema.attack("pgd")
    with pytest.raises(schema.ConfigError, match=r"attacks\.clean.*rename"):
        schema.resolve(config, NAMES)


@pytest.mark.parametrize("loss", ["balanced_softmax", "logit_adjustment"])
def test_the_frequencies_of_classes_count_once(loss):
    config = schema.default()
    config.loss.name, config.model.logit_adjustment = loss, 1.0
    with pytest.raises(schema.ConfigError, match=rf"model\.logit_adjustment = 1.*'{loss}'.*twice"):
        schema.resolve(config, NAMES)
    config.model.logit_adjustment = 0.0
    assert schema.resolve(config, NAMES).loss.name == loss


def test_fractions_count_as_numbers():
    config = schema.default()
    config.method = ConfigDict({"name": "pgd", "epsilon": "4/255"})
    assert schema.resolve(config, NAMES).method.epsilon == 4 / 255


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"dataset__name": "cifar01"}, ("dataset.name", "'cifar01'", "did you mean 'cifar10'")),
        ({"model__name": "resnet"}, ("model.name", "'resnet'", "did you mean 'resnet18'")),
        ({"method__name": "universl"}, ("method.name", "did you mean 'universal'")),
        ({"attacks__pgd__name": "pdg"}, ("attacks.pgd.name", "'pdg'", "did you mean 'pgd'")),
        ({"method__epsilon": -0.1}, ("method.epsilon = -0.1", "at least 0")),
        ({"method__epsilon": float("nan")}, ("method.epsilon = nan", "finite")),
        ({"method__epsilon": 8.0}, ("method.epsilon = 8", "at most 1", "did you mean 8/255")),
        ({"attacks__pgd__epsilon": -1.0}, ("attacks.pgd.epsilon = -1.0", "at least 0")),
        ({"method__form": "both"}, ("method.form", "simultaneous, alternating")),
        ({"method__num_steps": 3}, ("method.num_steps", "not a field of 'universal'", "none")),
        ({"batch_size": 0}, ("batch_size = 0", "at least 1")),
        ({"batch_size": 12.5}, ("batch_size = 12.5", "whole number")),
        ({"seed": True}, ("seed", "whole number")),
        ({"task": "trian"}, ("task", "did you mean 'train'")),
        ({"dataset__flip_vertical": "yes"}, ("dataset.flip_vertical", "true or false")),
        (
            {
                "imbalance__name": "step",
                "imbalance__imbalance_ratio": 10.0,
                "imbalance__decay": 0.5,
            },
            ("imbalance.decay", "'step'"),
        ),
        (
            {"schedule__name": "triangular", "schedule__max_learning_rate": 1e-5},
            ("schedule.max_learning_rate", "at least schedule.learning_rate"),
        ),
        (
            {
                "imbalance__name": "exponential",
                "imbalance__decay": 0.5,
                "imbalance__imbalance_ratio": 10.0,
            },
            ("imbalance.decay", "one of the two"),
        ),
        ({"dataset__fill": "grey"}, ("dataset.fill = 'grey'", "black, mean")),
        ({"dataset__jitter_hue": 0.6}, ("dataset.jitter_hue = 0.6", "between 0 and 0.5")),
        ({"sampler__name": "clas_aware"}, ("sampler.name", "did you mean 'class_aware'")),
        ({"sampler__beta": 0.5}, ("sampler.beta", "not a field of 'uniform'")),
        (
            {"sampler__name": "class_aware", "sampler__start_epoch": 10},
            ("sampler.start_epoch = 10", "below num_epochs = 10"),
        ),
    ],
)
def test_each_mistake_is_one_line_that_names_field_and_allowed(changes, parts):
    lines = mistakes(**changes)
    assert len(lines) == 1
    for part in parts:
        assert part in lines[0]


def test_the_fields_of_every_member_of_a_chain_apply():
    config = schema.default()
    config.score.perturbation = "rotation+gaussian_noise"
    config.score.sigma = 0.05
    score = schema.resolve(config, NAMES).score
    assert (score.perturbation, score.sigma) == ("rotation+gaussian_noise", 0.05)
    assert score.max_degrees == schema.GROUPS["score"].every()["max_degrees"].default
    assert "values" not in score
    assert schema.resolve({"score": score.to_dict()}, NAMES).score.to_dict() == score.to_dict()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"score__perturbation": "rotation+gausian_noise+blurr"},
            (
                ("score.perturbation", "'gausian_noise' is unknown", "mean 'gaussian_noise'"),
                ("score.perturbation", "'blurr' is unknown", "allowed: random_pixels"),
            ),
        ),
        ({"score__perturbation": "rotation+"}, (("'rotation+'", "'' is unknown"),)),
        (
            {"score__perturbation": "rotation+gaussian_noise", "score__max_pixels": 3},
            (("score.max_pixels = 3", "'rotation+gaussian_noise'", "sigma", "max_degrees"),),
        ),
        # Only a selector that says so holds several names.
        ({"model__name": "simple_cnn+resnet18"}, (("model.name", "unknown; allowed"),)),
    ],
)
def test_mistakes_in_a_chain(changes, expected):
    lines = mistakes(**changes)
    assert len(lines) == len(expected)
    for line, parts in zip(lines, expected, strict=True):
        for part in parts:
            assert part in line


def test_all_mistakes_are_listed_together():
    lines = mistakes(dataset__name="cifar1", batch_size=-1, method__epsilon=2.0)
    assert len(lines) == 3


def test_l2_epsilon_may_be_any_positive_size():
    config = schema.default()
    config.method.update(name="pgd", epsilon=12.0, norm="l2")
    assert schema.resolve(config, NAMES).method.epsilon == 12.0


def test_unknown_fields_of_a_plain_dict_are_named():
    with pytest.raises(schema.ConfigError, match=r"field 'epsilom'.*did you mean 'epsilon'"):
        schema.resolve({"method": {"name": "pgd", "epsilom": 0.1}}, NAMES)
    with pytest.raises(schema.ConfigError, match=r"unknown field 'datset'.*did you mean 'dataset'"):
        schema.resolve({"datset": {}}, NAMES)


def test_attack_refuses_unknown_fields():
    with pytest.raises(schema.ConfigError, match=r"unknown field 'steps'"):
        schema.attack("pgd", steps=3)


def test_variants():
    config = schema.default()
    assert schema.vary(config, "", smoke=lambda c: None) is config
    schema.vary(config, "smoke", smoke=lambda c: c.update(num_epochs=1))
    assert config.num_epochs == 1
    with pytest.raises(schema.ConfigError, match=r"'smok'.*did you mean 'smoke'"):
        schema.vary(config, "smok", smoke=lambda c: None)


class TestOfRun:
    def run(self) -> dict:
        config = schema.default()
        config.dataset.name = "cifar10"
        config.method.update(name="pgd", epsilon=0.1)
        return schema.resolve(config, NAMES).to_dict()

    def test_takes_the_runs_fields_and_the_given_attacks(self):
        given = schema.default()
        given.task = "evaluate"
        given.batch_size = 7
        given.dataset.max_test_examples = 5
        given.attacks.fgsm = schema.attack("fgsm")
        merged = schema.resolve(schema.of_run(given.to_dict(), self.run(), "runs/x"), NAMES)
        assert merged.dataset.name == "cifar10"
        assert merged.method.epsilon == 0.1
        assert merged.attacks.fgsm.epsilon == 0.1
        assert (merged.task, merged.batch_size) == ("evaluate", 7)
        assert merged.dataset.max_test_examples == 5

    def test_tuples_equal_the_lists_that_json_makes_of_them(self):
        run = self.run()
        run["schedule"] = {"name": "step", "milestones": [3, 5]}
        given = schema.default()
        given.schedule.update(name="step", milestones=(3, 5))
        assert schema.of_run(given.to_dict(), run, "runs/x")["schedule"] == run["schedule"]

    def test_a_typed_default_counts(self):
        given = schema.default().to_dict()
        schema.of_run(given, self.run(), "runs/x")
        with pytest.raises(schema.ConfigError, match=r"method.name = 'standard'.*'pgd'"):
            schema.of_run(given, self.run(), "runs/x", typed=["method.name"])

    def test_refuses_what_contradicts_the_run(self):
        given = schema.default()
        given.model.name = "resnet18"
        with pytest.raises(schema.ConfigError, match=r"model.name = 'resnet18'.*'simple_cnn'"):
            schema.of_run(given.to_dict(), self.run(), "runs/x")


def test_describe_names_every_field():
    text = schema.describe()
    for name in schema.TOP:
        assert f"  {name} " in text
    for group, schema_of in schema.GROUPS.items():
        for name in schema_of.every():
            assert f"{group}.{name} " in text


def test_every_field_says_what_it_means():
    groups = (schema.ATTACKS, *schema.GROUPS.values())
    for fields in (schema.TOP, *(group.every() for group in groups)):
        for name, field in fields.items():
            assert field.meaning, name
            assert field.default is None or type(field.default) is field.kind, name


def test_a_typo_and_a_list_are_answered_without_jax_and_numpy():
    program = (
        "import sys; from rbjax.main import main; "
        "typo = main(['rbjax', '--config=configs/uat_digits.py', '--config.method.epsilom=1']); "
        "listed = main(['rbjax', '--list=attacks']); "
        "slow = {'jax', 'numpy'} & set(sys.modules); "
        "sys.exit(f'{typo} {listed} {slow}' if slow or (typo, listed) != (2, 0) else 0)"
    )
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert "did you mean 'epsilon'" in result.stderr
    assert "carlini_wagner" in result.stdout


def test_a_config_can_say_every_value_of_every_option():
    """None in a config is "left out", so an option that may be None is None when left out."""
    options = {
        f"{kind} {name}: {option}": said
        for kind in tables.HOMES
        for name, entry in catalog.entries(kind).items()
        for option, said in entry.options.items()
    }
    assert len(options) > 300
    assert [where for where, o in options.items() if o.optional and o.default is not None] == []
