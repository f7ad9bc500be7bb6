"""Watches what is live: measures, judges, tells. The only code that writes monitors/."""
