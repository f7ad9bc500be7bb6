"""Who serves whom. The only code that writes deployments/."""
