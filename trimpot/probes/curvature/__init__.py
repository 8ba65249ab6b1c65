"""How a loss changes around the weights: sharpness in boxes and balls, eigenvalues and trace of its Hessian."""
