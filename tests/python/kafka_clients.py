"""Two Python clients against a broker: `kafka_clients.py confluent|kafka-python HOST:PORT`. Prints `ok` or fails."""

import sys
import time

COUNT = 200
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def confluent(bootstrap):
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic("confluent", 3, 1, config={"retention.ms": "1234567"})])["confluent"].result(30)
    assert len(admin.list_topics(timeout=30).topics["confluent"].partitions) == 3
    resource = ConfigResource(ResourceType.TOPIC, "confluent")
    assert admin.describe_configs([resource])[resource].result(30)["retention.ms"].value == "1234567"
    for codec in CODECS:
        producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": True})
        failed = []
        for n in range(COUNT):
            producer.produce(
                "confluent", f"{codec} {n}", str(n), headers={"codec": codec},
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        assert producer.flush(30) == 0 and not failed, failed
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "confluent", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe(["confluent"])
    seen, deadline = set(), time.time() + 60
    while len(seen) < COUNT * len(CODECS):
        assert time.time() < deadline, len(seen)
        message = consumer.poll(1)
        if message is None:
            continue
        assert message.error() is None, message.error()
        assert message.headers() == [("codec", message.value().decode().split()[0].encode())]
        seen.add(message.value().decode())
    assert seen == {f"{codec} {n}" for codec in CODECS for n in range(COUNT)}
    consumer.commit(asynchronous=False)
    committed = consumer.committed([TopicPartition("confluent", p) for p in range(3)], timeout=30)
    assert sum(partition.offset for partition in committed) == COUNT * len(CODECS), committed
    consumer.close()
    transactions(bootstrap, admin)
    groups = admin.list_consumer_groups().result(30)
    assert "confluent" in [group.group_id for group in groups.valid]
    admin.delete_topics(["confluent"])["confluent"].result(30)


def transactions(bootstrap, admin):
    """Records and offsets in transactions, one of them aborted; a second producer fences the first."""
    from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

    settings = {"bootstrap.servers": bootstrap, "transactional.id": "confluent"}
    producer = Producer(settings)
    producer.init_transactions(30)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "in-transactions"})
    consumer.assign([TopicPartition("confluent", 0, 0)])
    for word, end in [("kept", producer.commit_transaction), ("dropped", producer.abort_transaction), ("too", producer.commit_transaction)]:
        producer.begin_transaction()
        for n in range(10):
            producer.produce("transactions", f"{word} {n}", partition=0)
        offset = {"kept": 3, "dropped": 5, "too": 7}[word]
        producer.send_offsets_to_transaction(
            [TopicPartition("confluent", 0, offset)], consumer.consumer_group_metadata(), 30
        )
        end(30)
    assert consumer.committed([TopicPartition("confluent", 0)], timeout=30)[0].offset == 7
    second = Producer(settings)
    second.init_transactions(30)
    producer.begin_transaction()
    producer.produce("transactions", "zombie", partition=0)
    try:
        producer.commit_transaction(30)
        raise AssertionError("a zombie commits")
    except KafkaException as error:
        assert error.args[0].fatal(), error
    second.begin_transaction()
    second.produce("transactions", "last", partition=0)
    second.commit_transaction(30)
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "isolation.level": "read_committed"})
    reader.assign([TopicPartition("transactions", 0, 0)])
    seen, deadline = [], time.time() + 60
    while not seen or seen[-1] != "last":
        assert time.time() < deadline, seen
        message = reader.poll(1)
        if message is not None:
            assert message.error() is None, message.error()
            seen.append(message.value().decode())
    assert seen == [f"{word} {n}" for word in ["kept", "too"] for n in range(10)] + ["last"], seen
    reader.close()
    consumer.close()
    admin.delete_topics(["transactions"])["transactions"].result(30)


def kafka_python(bootstrap):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic("kafka-python", 2, 1)])
    assert "kafka-python" in admin.list_topics()
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type="gzip")
    sent = [producer.send("kafka-python", key=str(n).encode(), value=f"value {n}".encode()) for n in range(COUNT)]
    offsets = [future.get(timeout=30).offset for future in sent]
    assert sum(1 for offset in offsets if offset == 0) == 2, offsets
    consumer = KafkaConsumer(
        "kafka-python", bootstrap_servers=bootstrap, group_id="kafka-python", auto_offset_reset="earliest",
        enable_auto_commit=False, consumer_timeout_ms=60000,
    )
    seen = set()
    for message in consumer:
        seen.add(message.value.decode())
        if len(seen) == COUNT:
            break
    assert seen == {f"value {n}" for n in range(COUNT)}, len(seen)
    consumer.commit()
    partitions = [TopicPartition("kafka-python", p) for p in range(2)]
    assert sum(consumer.committed(partition) for partition in partitions) == COUNT
    assert sum(consumer.end_offsets(partitions).values()) == COUNT
    consumer.close()
    admin.delete_topics(["kafka-python"])


{"confluent": confluent, "kafka-python": kafka_python}[sys.argv[1]](sys.argv[2])
print("ok")
