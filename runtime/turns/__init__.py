"""One message of a key at a time: lanes, workers, commits."""
