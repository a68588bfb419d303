"""Predictions and what they are worth: alignment, controls, metrics, intervals, tests and experiments."""
