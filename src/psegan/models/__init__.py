"""The networks: plain ``nn.Module`` classes, a paper a file, that know neither Lightning nor files."""
