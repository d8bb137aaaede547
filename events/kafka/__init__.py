"""The ledger on Apache Kafka: the client, the format of a record, the topic, the relay."""
