// kafkajs against a broker: `node kafkajs.js HOST:PORT`. Prints `ok` or fails.
const assert = require("node:assert");
const { Kafka, CompressionTypes, logLevel } = require("kafkajs");

const COUNT = 200;

// Records and offsets in transactions, one of them aborted.
async function transactions(kafka, admin) {
  const producer = kafka.producer({ transactionalId: "kafkajs", maxInFlightRequests: 1, idempotent: true });
  await producer.connect();
  for (const [word, offset] of [["kept", 3], ["dropped", 5], ["too", 7]]) {
    const transaction = await producer.transaction();
    const messages = [...Array(10).keys()].map((n) => ({ value: `${word} ${n}`, partition: 0 }));
    await transaction.send({ topic: "transactions", messages });
    const topics = [{ topic: "kafkajs", partitions: [{ partition: 0, offset: String(offset) }] }];
    await transaction.sendOffsets({ consumerGroupId: "in-transactions", topics });
    await (word === "dropped" ? transaction.abort() : transaction.commit());
  }
  const consumer = kafka.consumer({ groupId: "transactions", readUncommitted: false });
  await consumer.connect();
  await consumer.subscribe({ topics: ["transactions"], fromBeginning: true });
  const seen = [];
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`only ${seen} came`)), 60000).unref();
    consumer.run({
      eachMessage: async ({ message }) => {
        seen.push(message.value.toString());
        if (message.value.toString() === "too 9") resolve();
      },
    }).catch(reject);
  });
  await Promise.all([consumer.disconnect(), producer.disconnect()]);
  assert.deepStrictEqual(seen, ["kept", "too"].flatMap((word) => [...Array(10).keys()].map((n) => `${word} ${n}`)));
  const committed = await admin.fetchOffsets({ groupId: "in-transactions", topics: ["kafkajs"] });
  assert.strictEqual(committed[0].partitions.find((p) => p.partition === 0).offset, "7");
  await admin.deleteTopics({ topics: ["transactions"] });
}

async function main(bootstrap) {
  const kafka = new Kafka({ clientId: "test", brokers: [bootstrap], logLevel: logLevel.ERROR });
  const admin = kafka.admin();
  await admin.connect();
  assert(await admin.createTopics({ topics: [{ topic: "kafkajs", numPartitions: 3, replicationFactor: 1 }] }));
  assert((await admin.listTopics()).includes("kafkajs"));
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
    const messages = [...Array(COUNT).keys()].map((n) => ({
      key: String(n),
      value: `${compression} ${n}`,
      headers: { n: String(n) },
    }));
    await producer.send({ topic: "kafkajs", acks: -1, compression, messages });
  }
  const consumer = kafka.consumer({ groupId: "kafkajs" });
  await consumer.connect();
  await consumer.subscribe({ topics: ["kafkajs"], fromBeginning: true });
  const seen = new Set();
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`only ${seen.size} came`)), 60000).unref();
    consumer.run({
      eachMessage: async ({ message }) => {
        assert.strictEqual(message.headers.n.toString(), message.key.toString());
        seen.add(message.value.toString());
        if (seen.size === 2 * COUNT) resolve();
      },
    }).catch(reject);
  });
  await consumer.disconnect();
  await transactions(kafka, admin);
  const ends = await admin.fetchTopicOffsets("kafkajs");
  assert.strictEqual(ends.reduce((sum, end) => sum + Number(end.offset), 0), 2 * COUNT);
  const described = await admin.describeGroups(["kafkajs"]);
  assert.strictEqual(described.groups[0].state, "Empty");
  await admin.deleteTopics({ topics: ["kafkajs"] });
  await Promise.all([producer.disconnect(), admin.disconnect()]);
  console.log("ok");
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
