"""The commands ``fit``, ``validate``, ``test`` and ``predict``: LightningCLI, loggers, callbacks."""
