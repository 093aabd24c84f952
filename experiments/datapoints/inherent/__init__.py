"""Is robustness a property of the datapoint? See `__main__`."""
