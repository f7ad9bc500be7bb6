"""Retraining: when a model is trained again, and what becomes of it. The only code that writes jobs/."""
