package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.uber.org/zap"
)

// A check drives the client library against the server and fails with the first thing that is not as it must be.
type check func(ctx context.Context, open func() *clientv3.Client) error

var checks = []struct {
	name string
	run  check
}{
	{"locks", checkLocks},
	{"try-lock", checkTryLock},
	{"election", checkElection},
	{"stm", checkSTM},
	{"watch", checkWatch},
	{"watch-compacted", checkWatchCompacted},
	{"lease", checkLease},
	{"namespace", checkNamespace},
	{"mirror", checkMirror},
	{"ordering", checkOrdering},
	{"leasing", checkLeasing},
	{"errors", checkErrors},
}

// runClient runs every check, or those named, and prints a line for each; the exit status tells whether all held.
func runClient() {
	flags := flag.NewFlagSet("etcd-client", flag.ExitOnError)
	endpoints := flags.String("endpoints", "127.0.0.1:2379", "servers, with commas")
	cacert := flags.String("cacert", "", "the authority's certificate")
	cert := flags.String("cert", "", "a client certificate")
	key := flags.String("key", "", "its key")
	_ = flags.Parse(os.Args[1:])
	config := clientv3.Config{
		Endpoints: strings.Split(*endpoints, ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	}
	if *cacert != "" {
		config.TLS = must(tlsConfig(*cacert, *cert, *key))
	}
	open := func() *clientv3.Client { return must(clientv3.New(config)) }
	failed := false
	for _, check := range checks {
		if flags.NArg() > 0 && !contains(flags.Args(), check.name) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := check.run(ctx, open); err != nil {
			fmt.Printf("FAILED %s: %v\n", check.name, err)
			failed = true
		} else {
			fmt.Printf("ok %s\n", check.name)
		}
		cancel()
	}
	if failed {
		os.Exit(1)
	}
}

func tlsConfig(cacert, cert, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(cacert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + cacert)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}, err
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

func expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// checkLocks has five clients take turns at one mutex; the counter behind it must not lose an update.
func checkLocks(ctx context.Context, open func() *clientv3.Client) error {
	const clients, turns = 5, 4
	var group sync.WaitGroup
	results := make(chan error, clients)
	var inside atomic.Int32
	for range clients {
		group.Add(1)
		go func() {
			defer group.Done()
			results <- lockTurns(ctx, open(), turns, &inside)
		}()
	}
	group.Wait()
	for range clients {
		if err := <-results; err != nil {
			return err
		}
	}
	client := open()
	defer client.Close()
	got, err := client.Get(ctx, "go/lock/counter")
	if err != nil {
		return err
	}
	left, err := client.Get(ctx, "go/lock/mutex/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	if err := expect(len(left.Kvs) == 0, "%d keys of waiters stay", len(left.Kvs)); err != nil {
		return err
	}
	return expect(got.Kvs[0].Version == clients*turns, "%d turns, %d writes", clients*turns, got.Kvs[0].Version)
}

func lockTurns(ctx context.Context, client *clientv3.Client, turns int, inside *atomic.Int32) error {
	defer client.Close()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		return err
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "go/lock/mutex")
	for range turns {
		if err := mutex.Lock(ctx); err != nil {
			return err
		}
		if n := inside.Add(1); n != 1 {
			return fmt.Errorf("%d inside of the mutex", n)
		}
		response, err := client.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("go/lock/counter", "x")).Commit()
		if err != nil || !response.Succeeded {
			return fmt.Errorf("the owner's write: %v %v", response, err)
		}
		inside.Add(-1)
		if err := mutex.Unlock(ctx); err != nil {
			return err
		}
	}
	return nil
}

func checkTryLock(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	one, two := must(concurrency.NewSession(client)), must(concurrency.NewSession(client))
	defer two.Close()
	first, second := concurrency.NewMutex(one, "go/try"), concurrency.NewMutex(two, "go/try")
	if err := first.TryLock(ctx); err != nil {
		return err
	}
	if err := second.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("the second gets %v", err)
	}
	// A session that ends frees its lock.
	if err := one.Close(); err != nil {
		return err
	}
	return second.TryLock(ctx)
}

func checkElection(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	one, two := must(concurrency.NewSession(client)), must(concurrency.NewSession(client))
	defer two.Close()
	first, second := concurrency.NewElection(one, "go/elect"), concurrency.NewElection(two, "go/elect")
	if err := first.Campaign(ctx, "one"); err != nil {
		return err
	}
	observed := second.Observe(ctx)
	if got := <-observed; string(got.Kvs[0].Value) != "one" {
		return fmt.Errorf("observed %q", got.Kvs[0].Value)
	}
	won := make(chan error, 1)
	go func() { won <- second.Campaign(ctx, "two") }()
	if err := first.Proclaim(ctx, "one again"); err != nil {
		return err
	}
	if got := <-observed; string(got.Kvs[0].Value) != "one again" {
		return fmt.Errorf("observed %q", got.Kvs[0].Value)
	}
	select {
	case err := <-won:
		return fmt.Errorf("two leaders: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := one.Close(); err != nil {
		return err
	}
	if err := <-won; err != nil {
		return err
	}
	leader, err := second.Leader(ctx)
	if err != nil {
		return err
	}
	if err := expect(string(leader.Kvs[0].Value) == "two", "leader %q", leader.Kvs[0].Value); err != nil {
		return err
	}
	if err := second.Resign(ctx); err != nil {
		return err
	}
	_, err = second.Leader(ctx)
	return expect(errors.Is(err, concurrency.ErrElectionNoLeader), "after the resignation: %v", err)
}

// checkSTM moves money between accounts from several clients at once: the sum stays.
func checkSTM(ctx context.Context, open func() *clientv3.Client) error {
	const accounts, clients, moves = 4, 4, 10
	client := open()
	defer client.Close()
	name := func(n int) string { return fmt.Sprintf("go/stm/%d", n%accounts) }
	for n := range accounts {
		must(client.Put(ctx, name(n), strings.Repeat("x", 10)))
	}
	results := make(chan error, clients)
	for c := range clients {
		go func() {
			level := []concurrency.Isolation{
				concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads,
			}[c%3]
			for n := range moves {
				_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
					from, to := stm.Get(name(n+c)), stm.Get(name(n+c+1))
					if from != "" {
						stm.Put(name(n+c), from[1:])
						stm.Put(name(n+c+1), to+"x")
					}
					return nil
				}, concurrency.WithIsolation(level), concurrency.WithAbortContext(ctx))
				if err != nil {
					results <- err
					return
				}
			}
			results <- nil
		}()
	}
	for range clients {
		if err := <-results; err != nil {
			return err
		}
	}
	all, err := client.Get(ctx, "go/stm/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	sum := 0
	for _, kv := range all.Kvs {
		sum += len(kv.Value)
	}
	return expect(sum == accounts*10, "the sum was %d and is %d", accounts*10, sum)
}

// checkWatch watches from a past revision over live changes with filters, previous values, fragments and progress.
func checkWatch(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	first := must(client.Put(ctx, "go/watch/a", "0")).Header.Revision
	for n := 1; n < 20; n++ {
		must(client.Put(ctx, "go/watch/a", fmt.Sprint(n)))
	}
	watch := client.Watch(ctx, "go/watch/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithPrevKV(),
		clientv3.WithFragment(), clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		return fmt.Errorf("not told of the creation: %+v", created)
	}
	deletes := client.Watch(ctx, "go/watch/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFilterPut())
	big := strings.Repeat("b", 400_000)
	for n := range 8 {
		must(client.Put(ctx, fmt.Sprintf("go/watch/big%d", n), big))
	}
	last := must(client.Delete(ctx, "go/watch/", clientv3.WithPrefix())).Header.Revision
	revision, seen, previous := first-1, 0, ""
	for revision < last {
		response, open := <-watch
		if !open || response.Err() != nil {
			return fmt.Errorf("ended at %d of %d: %v", revision, last, response.Err())
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision < revision {
				return fmt.Errorf("revision %d after %d", event.Kv.ModRevision, revision)
			}
			revision, seen = event.Kv.ModRevision, seen+1
			if string(event.Kv.Key) != "go/watch/a" || event.Type != mvccpb.PUT || revision == first {
				continue
			}
			previous = string(event.PrevKv.Value)
		}
	}
	if err := expect(seen == 20+8+9 && previous == "18", "%d events, previous %q", seen, previous); err != nil {
		return err
	}
	gone := <-deletes
	if err := expect(len(gone.Events) == 9, "%d deletes: %+v", len(gone.Events), gone.Err()); err != nil {
		return err
	}
	progress := client.Watch(ctx, "go/watch/none")
	if err := client.RequestProgress(ctx); err != nil {
		return err
	}
	for _, one := range []clientv3.WatchChan{progress} {
		response := <-one
		if !response.IsProgressNotify() || response.Header.Revision < last {
			return fmt.Errorf("progress: %+v", response)
		}
	}
	return nil
}

func checkWatchCompacted(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	for n := range 5 {
		must(client.Put(ctx, "go/compacted", fmt.Sprint(n)))
	}
	at := must(client.Put(ctx, "go/compacted", "last")).Header.Revision
	must(client.Compact(ctx, at, clientv3.WithCompactPhysical()))
	response := <-client.Watch(ctx, "go/compacted", clientv3.WithRev(at-3))
	if err := expect(response.Canceled && response.CompactRevision == at && errors.Is(response.Err(), rpctypes.ErrCompacted),
		"%+v", response); err != nil {
		return err
	}
	_, err := client.Get(ctx, "go/compacted", clientv3.WithRev(at-1))
	return expect(errors.Is(err, rpctypes.ErrCompacted), "a read below: %v", err)
}

func checkLease(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	lease, err := client.Grant(ctx, 2)
	if err != nil {
		return err
	}
	must(client.Put(ctx, "go/lease", "x", clientv3.WithLease(lease.ID)))
	alive, stop := context.WithCancel(ctx)
	renewals, err := client.KeepAlive(alive, lease.ID)
	if err != nil {
		return err
	}
	for range 3 {
		if _, open := <-renewals; !open {
			return errors.New("the keep-alive ended")
		}
	}
	life := must(client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()))
	if err := expect(len(life.Keys) == 1 && life.GrantedTTL == 2, "%+v", life); err != nil {
		return err
	}
	if err := expect(len(must(client.Leases(ctx)).Leases) >= 1, "no lease is listed"); err != nil {
		return err
	}
	watch := client.Watch(ctx, "go/lease")
	stop()
	event := <-watch
	if err := expect(len(event.Events) == 1 && event.Events[0].Type == mvccpb.DELETE, "the end: %+v", event); err != nil {
		return err
	}
	_, err = client.KeepAliveOnce(ctx, lease.ID)
	if err := expect(errors.Is(err, rpctypes.ErrLeaseNotFound), "after the end: %v", err); err != nil {
		return err
	}
	_, err = client.Put(ctx, "go/lease", "x", clientv3.WithLease(lease.ID))
	return expect(errors.Is(err, rpctypes.ErrLeaseNotFound), "a put with it: %v", err)
}

func checkNamespace(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	plain := client.KV
	kv, watcher := namespace.NewKV(client.KV, "go/ns/"), namespace.NewWatcher(client.Watcher, "go/ns/")
	watch := watcher.Watch(ctx, "", clientv3.WithPrefix())
	must(kv.Put(ctx, "a", "1"))
	must(plain.Put(ctx, "a", "outside"))
	must(kv.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).Then(clientv3.OpPut("b", "2")).Commit())
	got := must(kv.Get(ctx, "", clientv3.WithFromKey()))
	if err := expect(got.Count == 2 && string(got.Kvs[1].Key) == "b", "%+v", got); err != nil {
		return err
	}
	if err := expect(must(plain.Get(ctx, "go/ns/b")).Count == 1, "b is not in its place"); err != nil {
		return err
	}
	for _, name := range []string{"a", "b"} {
		event := <-watch
		if string(event.Events[0].Kv.Key) != name {
			return fmt.Errorf("%q instead of %q", event.Events[0].Kv.Key, name)
		}
	}
	return nil
}

func checkMirror(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	for n := range 50 {
		must(client.Put(ctx, fmt.Sprintf("go/mirror/%02d", n), "x"))
	}
	syncer := mirror.NewSyncer(client, "go/mirror/", 0)
	responses, failures := syncer.SyncBase(ctx)
	count := 0
	for response := range responses {
		count += len(response.Kvs)
	}
	if err := <-failures; err != nil || count != 50 {
		return fmt.Errorf("%d keys, %v", count, err)
	}
	updates := syncer.SyncUpdates(ctx)
	must(client.Put(ctx, "go/mirror/late", "x"))
	update := <-updates
	return expect(len(update.Events) == 1 && string(update.Events[0].Kv.Key) == "go/mirror/late", "%+v", update)
}

func checkOrdering(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	kv := ordering.NewKV(client.KV, func(clientv3.Op, clientv3.OpResponse, int64) error {
		return errors.New("an answer from the past")
	})
	for n := range 20 {
		must(client.Put(ctx, "go/ordering", fmt.Sprint(n)))
		got, err := kv.Get(ctx, "go/ordering", clientv3.WithSerializable())
		if err != nil || len(got.Kvs) != 1 {
			return fmt.Errorf("%v %v", got, err)
		}
	}
	return nil
}

func checkLeasing(ctx context.Context, open func() *clientv3.Client) error {
	client, other := open(), open()
	defer client.Close()
	defer other.Close()
	cached, stop, err := leasing.NewKV(client, "go/leasing/")
	if err != nil {
		return err
	}
	defer stop()
	writer, stopWriter, err := leasing.NewKV(other, "go/leasing/")
	if err != nil {
		return err
	}
	defer stopWriter()
	for n := range 5 {
		value := fmt.Sprint(n)
		must(writer.Put(ctx, "go/leased", value))
		got := must(cached.Get(ctx, "go/leased"))
		if string(got.Kvs[0].Value) != value {
			return fmt.Errorf("cached %q, written %q", got.Kvs[0].Value, value)
		}
	}
	return nil
}

// checkErrors holds the texts that the library maps to its errors.
func checkErrors(ctx context.Context, open func() *clientv3.Client) error {
	client := open()
	defer client.Close()
	future := must(client.Get(ctx, "go/errors")).Header.Revision + 1000
	many := make([]clientv3.Op, 129)
	for n := range many {
		many[n] = clientv3.OpPut(fmt.Sprint("go/errors/", n), "x")
	}
	cases := []struct {
		want error
		run  func() error
	}{
		{rpctypes.ErrEmptyKey, func() error { _, err := client.Put(ctx, "", "x"); return err }},
		{rpctypes.ErrFutureRev, func() error { _, err := client.Get(ctx, "x", clientv3.WithRev(future)); return err }},
		{rpctypes.ErrFutureRev, func() error { _, err := client.Compact(ctx, future); return err }},
		{rpctypes.ErrTooManyOps, func() error { _, err := client.Txn(ctx).Then(many...).Commit(); return err }},
		{rpctypes.ErrDuplicateKey, func() error {
			_, err := client.Txn(ctx).Then(clientv3.OpPut("go/d", "1"), clientv3.OpPut("go/d", "2")).Commit()
			return err
		}},
		{rpctypes.ErrLeaseNotFound, func() error { _, err := client.Revoke(ctx, 12345); return err }},
		{rpctypes.ErrLeaseNotFound, func() error {
			_, err := client.Put(ctx, "go/l", "x", clientv3.WithLease(12345))
			return err
		}},
		{rpctypes.ErrValueProvided, func() error {
			_, err := client.Put(ctx, "go/v", "x", clientv3.WithIgnoreValue())
			return err
		}},
		{rpctypes.ErrKeyNotFound, func() error {
			_, err := client.Put(ctx, "go/none", "", clientv3.WithIgnoreValue())
			return err
		}},
		{rpctypes.ErrRequestTooLarge, func() error {
			_, err := client.Put(ctx, "go/large", strings.Repeat("x", 1_600_000))
			return err
		}},
		{rpctypes.ErrUserNotFound, func() error { _, err := client.UserGet(ctx, "nobody"); return err }},
		{rpctypes.ErrRoleNotFound, func() error { _, err := client.RoleGet(ctx, "nothing"); return err }},
		{rpctypes.ErrMemberNotFound, func() error { _, err := client.MemberRemove(ctx, 12345); return err }},
	}
	for _, one := range cases {
		if err := one.run(); !errors.Is(err, one.want) {
			return fmt.Errorf("%v instead of %v", err, one.want)
		}
	}
	return nil
}
