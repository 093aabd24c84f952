"""What a universal perturbation is crafted on decides which classes it hits."""

from experiments.universal import craft_on
from rbjax import command_line


def test_crafted_on_a_long_tail_it_is_one_against_the_head(capsys):
    """Of the head it leaves a tenth less, of the tail a tenth more than one of a balanced part."""
    config = craft_on.make_config(ratio=30.0, epsilon=0.1, num_epochs=60)
    del config.attacks.validation
    shares = craft_on.measure(command_line.resolve(config, "unused"))
    names = ("nothing", "380 training images", "40 balanced training images")
    clean, whole, balanced = (shares[name] for name in names)
    assert min(clean[:2]) > 0.7
    assert whole[0] < balanced[0] - 0.1
    assert whole[1] > balanced[1] + 0.1
    assert craft_on.main(["--epsilon=2"]) == 2
    assert "epsilon" in capsys.readouterr().err
