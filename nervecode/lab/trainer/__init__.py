"""Training: task plus coding loss, an epoch at a time, from where it stood."""
