"""Detectors: pure functions of (observation, time, state) → findings. `table.py` lists them; `model.py` is their contract."""
