"""A simulated Cell Painting Gallery: invented compounds, drawn cells, real formats."""

from coda.simulation.plates import simulate_gallery

__all__ = ["simulate_gallery"]
