"""Queues that take what edges publish (docs/queues.md): Kafka, AMQP, NATS, NSQ, Redis, or a class of one's own."""
