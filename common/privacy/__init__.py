"""What noise hides: plans of noise, what they cost, what an audit shows of them."""
