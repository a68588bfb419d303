"""Plates in the gallery or a folder: their tables, labels, files and download."""
