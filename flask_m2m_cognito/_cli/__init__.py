"""What the commands of ``flask m2m`` do: one module for each. Imported when a command runs, never before."""
