"""Magics, output and completion for IPython and Jupyter."""
