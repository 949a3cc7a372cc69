"""The rows of bench/websocket.py."""
