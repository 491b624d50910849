"""Flow matching: sigmas, noise, velocity, loss, and the random numbers that they need."""
