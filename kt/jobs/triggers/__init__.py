"""What makes a retraining due, one file each."""
