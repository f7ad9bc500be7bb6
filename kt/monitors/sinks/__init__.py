"""Where alerts are told, one file each: it holds `Settings` and `send(message, settings, root)`."""
