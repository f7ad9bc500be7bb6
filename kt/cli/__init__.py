"""The kt command: read options, call one function, print."""
