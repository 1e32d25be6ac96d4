"""The subspace study on real features: what is committed under docs/results/ comes from here."""
