"""What every room needs: errors, files, random draws, processes."""
