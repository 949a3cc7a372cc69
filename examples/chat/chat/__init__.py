"""The chat of the articles, for today: browsers in rooms, over RabbitMQ, whichever instance they come to."""
