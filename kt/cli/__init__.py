"""The kt command: read options, call one function, print."""

import os

# kt has no plugins of pydantic; to look for some it reads the metadata of every package there is.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
