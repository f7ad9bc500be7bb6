"""The service that answers requests: it reads the manifest and the weights, and writes no workspace file."""
