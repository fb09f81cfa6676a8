"""The demonstration: seeded traffic, a gateway that really shifts it, and the story as it happens."""
