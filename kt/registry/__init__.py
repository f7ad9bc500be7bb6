"""Which versions exist. The only code that writes registry/."""
