"""From couplings to a chain: models, their laws, importers and conversions, the hypernetwork, the chain and its kernels."""
