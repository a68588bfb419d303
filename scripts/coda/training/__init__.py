"""Networks and how they are trained: DINO with cross-batch partners, the task model, adaptation."""
