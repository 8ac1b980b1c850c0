// Transactions: what is committed is read, what is aborted is not, and a loop that consumes, transforms and produces with
// its offsets in the transaction copies every record once.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// Records of a transaction, and transactions that produce the input; every third of them is aborted.
	batch  = 20
	rounds = 9
	// Every so many-th transaction of a loop is aborted at first, and its records copied again.
	abortedOf = 3
	patience  = 60 * time.Second
)

func isAborted(round int) bool { return round%abortedOf == abortedOf-1 }

// The values of a round.
func values(round int) []string {
	var all []string
	for n := range batch {
		all = append(all, fmt.Sprintf("%d-%d", round, n))
	}
	return all
}

// Every value that was committed, as the loop transforms it.
func wanted(transformed func(string) string) map[string]int {
	all := map[string]int{}
	for round := range rounds {
		if !isAborted(round) {
			for _, value := range values(round) {
				all[transformed(value)] = 1
			}
		}
	}
	return all
}

func transform(value string) string { return "copied " + value }

func same(what string, found, wanted map[string]int) error {
	var wrong []string
	for value, times := range found {
		if wanted[value] != times {
			wrong = append(wrong, fmt.Sprintf("%s %d times", value, times))
		}
	}
	for value := range wanted {
		if found[value] == 0 {
			wrong = append(wrong, value+" is missing")
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s: %s", what, strings.Join(wrong, ", "))
	}
	return nil
}

func franzTransactions(bootstrap string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	producer, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.TransactionalID("franz-source"))
	if err != nil {
		return err
	}
	defer producer.Close()
	admin := kadm.NewClient(producer)
	created, err := admin.CreateTopics(ctx, 3, 1, nil, "franz-in", "franz-out")
	if err == nil {
		err = created.Error()
	}
	if err != nil {
		return fmt.Errorf("create: %v", err)
	}
	for round := range rounds {
		if err := producer.BeginTransaction(); err != nil {
			return err
		}
		for _, value := range values(round) {
			record := &kgo.Record{Topic: "franz-in", Key: []byte(value), Value: []byte(value)}
			producer.Produce(ctx, record, func(_ *kgo.Record, failed error) {
				if failed != nil {
					err = failed
				}
			})
		}
		// What is aborted is written all the same: readers have to leave it out.
		if flushed := producer.Flush(ctx); flushed != nil || err != nil {
			return fmt.Errorf("produce: %v %v", flushed, err)
		}
		if err := producer.EndTransaction(ctx, kgo.TransactionEndTry(!isAborted(round))); err != nil {
			return fmt.Errorf("end: %v", err)
		}
	}
	found, err := franzRead(ctx, admin, bootstrap, "franz-in", kgo.ReadUncommitted())
	if err != nil || len(found) != rounds*batch {
		return fmt.Errorf("of everything %d are found: %v", len(found), err)
	}
	found, err = franzRead(ctx, admin, bootstrap, "franz-in", kgo.ReadCommitted())
	if err == nil {
		err = same("committed", found, wanted(func(value string) string { return value }))
	}
	if err != nil {
		return err
	}
	if err := franzLoop(ctx, bootstrap, rounds*batch-rounds/abortedOf*batch); err != nil {
		return err
	}
	found, err = franzRead(ctx, admin, bootstrap, "franz-out", kgo.ReadCommitted())
	if err == nil {
		err = same("copied", found, wanted(transform))
	}
	if err != nil {
		return err
	}
	return franzCheckOffsets(ctx, admin)
}

// Copies so many records, and has some of the transactions aborted.
func franzLoop(ctx context.Context, bootstrap string, records int) error {
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.TransactionalID("franz-loop"),
		kgo.ConsumerGroup("franz-loop"), kgo.ConsumeTopics("franz-in"), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer session.Close()
	aborted := 0
	for round, copied := 0, 0; copied < records || aborted == 0; round++ {
		fetches := session.PollRecords(ctx, batch)
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("fetch after %d: %v", copied, errs)
		}
		if err := session.Begin(); err != nil {
			return err
		}
		var failed error
		fetches.EachRecord(func(record *kgo.Record) {
			copy := &kgo.Record{Topic: "franz-out", Key: record.Key, Value: []byte(transform(string(record.Value)))}
			if err := session.ProduceSync(ctx, copy).FirstErr(); err != nil {
				failed = err
			}
		})
		if failed != nil {
			return fmt.Errorf("copy: %v", failed)
		}
		committed, err := session.End(ctx, kgo.TransactionEndTry(!isAborted(round)))
		if err != nil {
			return fmt.Errorf("end of a copy: %v", err)
		}
		if committed {
			copied += fetches.NumRecords()
		} else {
			aborted++
		}
	}
	return nil
}

// The group's offsets, which went with the transactions, are behind the last committed record of every partition.
func franzCheckOffsets(ctx context.Context, admin *kadm.Client) error {
	offsets, err := admin.FetchOffsets(ctx, "franz-loop")
	if err != nil {
		return err
	}
	ends, err := admin.ListCommittedOffsets(ctx, "franz-in")
	if err != nil {
		return err
	}
	for partition := range int32(3) {
		offset, known := offsets.Lookup("franz-in", partition)
		end, listed := ends.Lookup("franz-in", partition)
		if !known || !listed || offset.At <= 0 || offset.At > end.Offset {
			return fmt.Errorf("partition %d: offset %v of %v", partition, offset, end)
		}
	}
	return nil
}

// What a topic has, with how often, as a reader of this isolation level finds it.
func franzRead(ctx context.Context, admin *kadm.Client, bootstrap, topic string, level kgo.IsolationLevel) (map[string]int, error) {
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	// Control records are kept so that the end is seen, whatever it is that is there.
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(level))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found, left := map[string]int{}, map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[end.Partition] = end.Offset
		}
	})
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return nil, fmt.Errorf("%s: %v", topic, errs)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				found[string(record.Value)]++
			}
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		})
	}
	return found, nil
}

func saramaTransactions(bootstrap string) error {
	config := func(transactionalID string) *sarama.Config {
		config := sarama.NewConfig()
		config.Version = sarama.V3_6_0_0
		config.Producer.Return.Successes = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Producer.Idempotent = true
		config.Producer.Transaction.ID = transactionalID
		config.Net.MaxOpenRequests = 1
		config.Consumer.IsolationLevel = sarama.ReadCommitted
		config.Consumer.Offsets.Initial = sarama.OffsetOldest
		config.Consumer.Offsets.AutoCommit.Enable = false
		return config
	}
	brokers := []string{bootstrap}
	admin, err := sarama.NewClusterAdmin(brokers, config(""))
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, topic := range []string{"sarama-in", "sarama-out"} {
		if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); err != nil {
			return err
		}
	}
	source, err := sarama.NewSyncProducer(brokers, config("sarama-source"))
	if err != nil {
		return err
	}
	defer source.Close()
	for round := range rounds {
		if err := source.BeginTxn(); err != nil {
			return err
		}
		for _, value := range values(round) {
			message := &sarama.ProducerMessage{Topic: "sarama-in", Value: sarama.StringEncoder(value)}
			if _, _, err := source.SendMessage(message); err != nil {
				return err
			}
		}
		finish := source.CommitTxn
		if isAborted(round) {
			finish = source.AbortTxn
		}
		if err := finish(); err != nil {
			return fmt.Errorf("end: %v", err)
		}
	}
	last, err := saramaLoop(brokers, config("sarama-loop"), len(wanted(transform)))
	if err != nil {
		return err
	}
	offsets, err := admin.ListConsumerGroupOffsets("sarama-loop", map[string][]int32{"sarama-in": {0}})
	if err != nil {
		return err
	}
	if at := offsets.GetBlock("sarama-in", 0).Offset; at != last+1 {
		return fmt.Errorf("the group is at %d behind %d", at, last)
	}
	found, err := saramaRead(brokers, "sarama-out", config(""))
	if err == nil {
		err = same("copied", found, wanted(transform))
	}
	if err != nil {
		return err
	}
	found, err = saramaRead(brokers, "sarama-in", config(""))
	if err == nil {
		err = same("committed", found, wanted(func(value string) string { return value }))
	}
	if err != nil {
		return err
	}
	everything := config("")
	everything.Consumer.IsolationLevel = sarama.ReadUncommitted
	found, err = saramaRead(brokers, "sarama-in", everything)
	if err != nil || len(found) != rounds*batch {
		return fmt.Errorf("of everything %d are found: %v", len(found), err)
	}
	return nil
}

// Copies what it consumes; a transaction that is aborted is made again.
type copying struct {
	producer sarama.SyncProducer
	left     int
	last     int64
	done     chan error
}

func (*copying) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*copying) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (c *copying) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	var waiting []*sarama.ConsumerMessage
	for round := 0; c.left > 0; {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			if waiting = append(waiting, message); len(waiting) < min(batch, c.left) {
				continue
			}
		case <-session.Context().Done():
			return nil
		}
		for committed := false; !committed; round++ {
			committed = !isAborted(round)
			if err := c.copy(waiting, committed); err != nil {
				c.done <- err
				return err
			}
		}
		c.left -= len(waiting)
		c.last = waiting[len(waiting)-1].Offset
		waiting = nil
	}
	c.done <- nil
	return nil
}

func (c *copying) copy(messages []*sarama.ConsumerMessage, commit bool) error {
	if err := c.producer.BeginTxn(); err != nil {
		return err
	}
	for _, message := range messages {
		value := sarama.StringEncoder(transform(string(message.Value)))
		if _, _, err := c.producer.SendMessage(&sarama.ProducerMessage{Topic: "sarama-out", Value: value}); err != nil {
			return err
		}
		if err := c.producer.AddMessageToTxn(message, "sarama-loop", nil); err != nil {
			return err
		}
	}
	if !commit {
		return c.producer.AbortTxn()
	}
	return c.producer.CommitTxn()
}

// Copies so many records; the offset of the last.
func saramaLoop(brokers []string, config *sarama.Config, records int) (int64, error) {
	producer, err := sarama.NewSyncProducer(brokers, config)
	if err != nil {
		return 0, err
	}
	defer producer.Close()
	config = func(config sarama.Config) *sarama.Config {
		config.Producer.Transaction.ID = ""
		return &config
	}(*config)
	group, err := sarama.NewConsumerGroup(brokers, "sarama-loop", config)
	if err != nil {
		return 0, err
	}
	defer group.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	handler, ended := &copying{producer: producer, left: records, done: make(chan error, 1)}, make(chan error, 1)
	go func() { ended <- group.Consume(ctx, []string{"sarama-in"}, handler) }()
	select {
	case err = <-handler.done:
	case err = <-ended:
		if err == nil {
			err = errors.New("the group ended")
		}
		return 0, err
	}
	cancel()
	<-ended
	return handler.last, err
}

// Stands at the end of what is read, outside of all transactions.
const end = "the end"

// The records of a topic, with how often, as a reader of this configuration finds them.
func saramaRead(brokers []string, topic string, config *sarama.Config) (map[string]int, error) {
	client, err := sarama.NewClient(brokers, config)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	_, last, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(end)})
	if err != nil {
		return nil, err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	defer partition.Close()
	found, late := map[string]int{}, time.After(patience)
	for {
		select {
		case message := <-partition.Messages():
			if message.Offset == last {
				return found, nil
			}
			if value := string(message.Value); value != end {
				found[value]++
			}
		case <-late:
			return nil, fmt.Errorf("%s: only %d are found", topic, len(found))
		}
	}
}
