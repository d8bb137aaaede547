"""What all queries share: the two clocks, pages, money, and views of the past."""
