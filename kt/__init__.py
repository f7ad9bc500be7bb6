"""kt takes trained PyTorch models into production and keeps them healthy."""

__version__ = "0.1.0"
