"""What a contributor, or a curious user, runs: private brokers, checks, generators."""
