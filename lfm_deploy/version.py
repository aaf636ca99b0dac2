"""The version of lfm-deploy, written into every artifact that it makes."""

__version__ = "0.1.0"
