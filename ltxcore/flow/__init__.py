"""Flow matching: sigmas, noise, velocity and loss, and the random numbers for them."""
