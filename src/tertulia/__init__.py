"""Tertulia: the conversation backend for AI apps."""

from importlib.metadata import version

__version__ = version("tertulia")
