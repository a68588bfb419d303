"""CODA: cross-batch online domain adaptation for Cell Painting, one concept a module.

The package imports without Snakemake, so that notebooks and benchmarks can use it too.
"""
