"""What a run costs in memory and on disk, told before it starts: from the real model without its weights."""
