"""What holds of every input there is, tried on many."""
