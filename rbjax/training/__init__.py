"""The training loop's parts: state, the compiled step, optimizers, schedules, checkpoints, logs."""
