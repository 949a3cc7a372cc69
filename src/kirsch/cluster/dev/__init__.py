"""The development loop: code that runs, and runs anew when it changes."""
