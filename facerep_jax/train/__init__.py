"""The training loop: state, step, optimizer, sharding, checkpoints, logs."""
