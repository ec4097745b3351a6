"""The machine below a run: device, signals, progress, provenance, trackers."""
