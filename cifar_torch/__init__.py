"""CIFAR-10 with one small network: train it, look inside it, serve it."""

__version__ = "0.1.0"
