"""Do rbjax's attacks find what the attacks of foolbox and torchattacks find? On the same weights.

    python -m experiments.parity.train           trains three small models and exports their weights
    PEERS_PYTHON experiments/parity/torch_side.py MODEL      what the peers find
    python -m experiments.parity                 what rbjax finds, beside it: results.md

Weights and what the peers found are kept in tests/peers/fixtures, where the tests read them.
"""
