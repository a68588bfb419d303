"""A simulated Cell Painting Gallery: invented compounds, drawn cells, real formats."""
