"""The app that `engine demo` runs; examples/word_count.py is the same file as `word_count`."""
