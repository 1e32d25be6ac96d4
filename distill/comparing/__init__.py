"""Students side by side: statistics, a search that is fair to all, and rivals without a network."""
