// Two Go clients against a broker: `kafka-clients franz|sarama|franz-transactions|sarama-transactions HOST:PORT`. Prints
// `ok` or fails.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const count = 200

func main() {
	run := map[string]func(string) error{
		"franz": franz, "sarama": saramaClient,
		"franz-transactions": franzTransactions, "sarama-transactions": saramaTransactions,
	}[os.Args[1]]
	if err := run(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func franz(bootstrap string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup("franz"), kgo.ConsumeTopics("franz"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	created, err := admin.CreateTopic(ctx, 3, 1, nil, "franz")
	if err != nil || created.Err != nil {
		return fmt.Errorf("create: %v %v", err, created.Err)
	}
	for n := range count {
		record := &kgo.Record{Topic: "franz", Key: []byte(fmt.Sprint(n)), Value: []byte(fmt.Sprint("value ", n))}
		client.Produce(ctx, record, func(_ *kgo.Record, failed error) {
			if failed != nil {
				err = failed
			}
		})
	}
	if flushed := client.Flush(ctx); flushed != nil || err != nil {
		return fmt.Errorf("produce: %v %v", flushed, err)
	}
	seen := map[string]bool{}
	for len(seen) < count {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("fetch: %v", errs)
		}
		fetches.EachRecord(func(record *kgo.Record) { seen[string(record.Value)] = true })
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	lag, err := admin.Lag(ctx, "franz")
	if err != nil || lag["franz"].Lag.Total() != 0 {
		return fmt.Errorf("lag: %v %v", lag, err)
	}
	if _, err := admin.DeleteTopics(ctx, "franz"); err != nil {
		return err
	}
	return nil
}

type handler struct{ seen chan string }

func (handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(message, "")
			h.seen <- string(message.Value)
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaClient(bootstrap string) error {
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Compression = sarama.CompressionSnappy
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.CreateTopic("sarama", &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); err != nil {
		return err
	}
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	for n := range count {
		message := &sarama.ProducerMessage{Topic: "sarama", Key: sarama.StringEncoder(fmt.Sprint(n)),
			Value: sarama.StringEncoder(fmt.Sprint("value ", n))}
		if _, _, err := producer.SendMessage(message); err != nil {
			return err
		}
	}
	group, err := sarama.NewConsumerGroup([]string{bootstrap}, "sarama", config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	values, done := make(chan string), make(chan error, 1)
	go func() { done <- group.Consume(ctx, []string{"sarama"}, handler{values}) }()
	seen := map[string]bool{}
	for len(seen) < count {
		select {
		case value := <-values:
			seen[value] = true
		case err := <-done:
			return fmt.Errorf("%d seen: %v", len(seen), err)
		}
	}
	cancel()
	<-done
	if err := group.Close(); err != nil {
		return err
	}
	topics, err := admin.ListTopics()
	if err != nil || topics["sarama"].NumPartitions != 3 {
		return fmt.Errorf("list: %v %v", topics, err)
	}
	return admin.DeleteTopic("sarama")
}
