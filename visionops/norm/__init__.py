"""Room `norm`: normalisation over channels, fused with what follows it; so far its meaning only."""

__all__: list[str] = []
