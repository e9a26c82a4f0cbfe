"""Speed, held by ratios to a reference timed in the same run: `make bench`, `make guard`."""
